"""What the pictures are made of: a still room seen by a fixed camera, bones, and short texts that change.

Positions on the picture are pixels with y up from the lower left corner, as matplotlib has them; the room is in metres,
z up. Matplotlib draws the still part once; bones go straight to its renderer, which is what makes a frame cheap.
"""
import itertools

import numpy as np

DPI = 100
# Okabe and Ito's blue and vermilion: told apart with any colour vision, and on dark and light video alike.
COLOURS = {"left": "#0072B2", "right": "#D55E00", "centre": "#33383d"}
INK, QUIET, PAPER = "#22262a", "#70787f", "#ffffff"
GHOST = dict.fromkeys(COLOURS, "#8d969d")  # of a skeleton that others are compared with
FLOOR, WALL, GRID, SHADOW = "#dfe4e8", "#f2f4f5", "#ffffff", "#bcc4ca"
CELL = 0.5  # metres between grid lines
ELEVATION = 15  # degrees above the horizon, as in VideoPose3D


def turned(points, azim):
    """World points (..., 3) as the viewer at azimuth `azim` (degrees, as in matplotlib) stands to them.

    Then x runs towards the viewer, y to the right and z up.
    """
    cos, sin = np.cos(np.deg2rad(azim)), np.sin(np.deg2rad(azim))
    return points @ np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


class View:
    """A fixed perspective camera in front of the box from `low` (3,) to `high` (3,), fitted into a rectangle.

    The box is as `turned` has it; rectangle: (x, y, width, height).
    """

    def __init__(self, low, high, rectangle):
        sin, cos = np.sin(np.deg2rad(ELEVATION)), np.cos(np.deg2rad(ELEVATION))
        self._axes = np.array([[0, 1, 0], [-sin, 0, cos], [cos, 0, sin]])  # right, up and towards the viewer
        self._centre = (low + high) / 2
        self._distance = 2.5 * np.linalg.norm(high - low)
        self._scale, self._shift = 1.0, np.zeros(2)
        corners, _ = self.project(np.array(list(itertools.product(*zip(low, high, strict=True)))))
        # The front of the box is air: only the floor and the back wall need to be seen.
        corners = np.delete(corners, [5, 7], axis=0)
        x, y, width, height = rectangle
        span = np.ptp(corners, axis=0)
        self._scale = min(width / span[0], height / span[1])
        self._shift = np.array([x + width / 2, y + height / 2]) - self._scale * (corners.min(0) + span / 2)

    def project(self, points):
        """Room points (..., 3) as pixels (..., 2) and how near they are (...), in metres towards the viewer."""
        seen = (points - self._centre) @ self._axes.T
        factor = self._distance / (self._distance - seen[..., 2:])
        return seen[..., :2] * factor * self._scale + self._shift, seen[..., 2]


class Room:
    """Floor, back wall and their grid, with the world's axes in a corner: the still part of a 3D panel."""

    def __init__(self, low, high, azim, rectangle):
        self.view = View(low, high, rectangle)
        self._low, self._high, self._azim = low, high, azim
        # Grid lines are counted from the middle of the floor, so that both its edges look alike.
        self._steps = [np.arange(0, high[2], CELL)]
        for middle, half in zip((low + high)[1::-1] / 2, (high - low)[1::-1] / 2, strict=True):
            self._steps.insert(0, middle + CELL * np.arange(-(half // CELL), half // CELL + 1))

    def _plane(self, axis):
        """The lower face of the box across an axis: its outline (4, 3) and its grid lines (N, 2, 3)."""
        a, b = (other for other in range(3) if other != axis)
        corners = np.tile(self._low, (4, 1))
        corners[1:3, a], corners[2:, b] = self._high[a], self._high[b]
        lines = []
        for along, across in ((a, b), (b, a)):
            for step in self._steps[across]:
                line = np.tile(self._low, (2, 1))
                line[:, across], line[1, along] = step, self._high[along]
                lines.append(line)
        return corners, np.array(lines)

    def draw(self, figure, font_size):
        """Add wall, floor, grid, axes and the height scale to a matplotlib figure."""
        from matplotlib.collections import LineCollection
        from matplotlib.patches import Polygon
        from matplotlib.transforms import IdentityTransform

        for axis, colour in ((0, WALL), (2, FLOOR)):
            corners, lines = self._plane(axis)
            figure.add_artist(Polygon(self.view.project(corners)[0], facecolor=colour, edgecolor="none",
                                      transform=IdentityTransform()))
            figure.add_artist(LineCollection(self.view.project(lines)[0], colors=GRID, linewidths=1,
                                             transform=IdentityTransform()))
        for height in self._steps[2]:
            (x, y), _ = self.view.project(np.array([self._low[0], self._low[1], height]))
            put_text(figure, x - 4, y, f"{height:g} m", font_size, QUIET, ha="right", va="center")
        self._draw_axes(figure, font_size)

    def _draw_axes(self, figure, font_size):
        """The directions x, y and z of the world, from a point near the front left corner of the floor."""
        from matplotlib.lines import Line2D
        from matplotlib.transforms import IdentityTransform

        origin = np.array([self._high[0] - CELL, self._low[1] + CELL, 0])
        for name, axis in zip("xyz", turned(np.eye(3), self._azim), strict=True):
            ends, _ = self.view.project(origin + np.outer([0, 0.6 * CELL, 0.85 * CELL], axis))
            figure.add_artist(Line2D(ends[:2, 0], ends[:2, 1], color=QUIET, linewidth=1.2, solid_capstyle="round",
                                     transform=IdentityTransform()))
            put_text(figure, *ends[2], name, font_size, QUIET, ha="center", va="center")


class Bones:
    """The limbs of one skeleton: a coloured line each, edged so that crossing limbs stay apart.

    width: in points; clip: what cuts them off, a matplotlib Bbox; colours: of left, right and centre.
    """

    def __init__(self, figure, skeleton, width, clip=None, colours=COLOURS, edge=PAPER):
        from matplotlib.collections import LineCollection
        from matplotlib.colors import to_rgba
        from matplotlib.transforms import IdentityTransform

        left, right = set(skeleton.joints_left()), set(skeleton.joints_right())
        bones = skeleton.bones()
        sides = ["left" if child in left else "right" if child in right else "centre" for child, _ in bones]
        bars = crossbars(skeleton)
        self._ends = np.array(bars + bones)  # (bones, 2)
        self._colours = np.array([to_rgba(colours[side]) for side in ["centre"] * len(bars) + sides])
        self._edges = np.broadcast_to(to_rgba(edge), self._colours.shape)
        self._lines = LineCollection([], capstyle="round", transform=IdentityTransform())
        self._lines.set_linewidth([width + 1.5, width])  # each bone over its own edge, in turn
        self._shadow = LineCollection([], capstyle="round", colors=SHADOW, linewidths=width + 0.5,
                                      transform=IdentityTransform())
        for lines in (self._lines, self._shadow):
            lines.set_figure(figure)
            lines.set_clip_box(clip)

    def draw(self, renderer, pixels, nearness=None):
        """Draw joints at pixels (J, 2); with nearness (J,), nearer bones over farther ones."""
        order = np.arange(len(self._ends)) if nearness is None else nearness[self._ends].mean(1).argsort()
        segments = pixels[self._ends[order]]  # (bones, 2, 2)
        edges = 0.8 * segments + 0.2 * segments.mean(axis=1, keepdims=True)  # short of the joints, which stay whole
        self._lines.set_segments(np.stack([edges, segments], axis=1).reshape(-1, 2, 2))
        self._lines.set_color(np.stack([self._edges, self._colours[order]], axis=1).reshape(-1, 4))
        self._lines.draw(renderer)

    def draw_shadow(self, renderer, pixels):
        """Draw what falls on the floor: joints at pixels (J, 2)."""
        self._shadow.set_segments(pixels[self._ends])
        self._shadow.draw(renderer)


class Points:
    """Joints without a known skeleton: dots."""

    def __init__(self, figure, width, clip=None):
        from matplotlib.lines import Line2D
        from matplotlib.transforms import IdentityTransform

        self._dots = Line2D([], [], linestyle="none", marker="o", markersize=2 * width, color=COLOURS["centre"],
                            markeredgecolor=PAPER, markeredgewidth=0.8, transform=IdentityTransform())
        self._dots.set_figure(figure)
        self._dots.set_clip_box(clip)

    def draw(self, renderer, pixels):
        """Draw joints at pixels (J, 2)."""
        self._dots.set_data(pixels[:, 0], pixels[:, 1])
        self._dots.draw(renderer)


def crossbars(skeleton):
    """Links across the hips and the shoulders for layouts, such as COCO's, that have no joint between them."""
    names, parents = skeleton.names(), skeleton.parents()
    pairs = [("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")]
    pairs = [(names.index(a), names.index(b)) for a, b in pairs if a in names and b in names]
    # Hips that hang on their own side, not on a pelvis, leave the trunk open.
    open_trunk = any(parents[joint] in skeleton.joints_left() for joint, _ in pairs)
    return pairs if open_trunk else []


def put_text(figure, x, y, text, size, colour=INK, **style):
    """Still text at pixels (x, y)."""
    width, height = figure.get_size_inches() * DPI
    figure.text(x / width, y / height, text, fontsize=size, color=colour, **style)


class Label:
    """A text that changes: Pillow draws it onto a blank strip, many times faster than matplotlib lays it out."""

    def __init__(self, size, colour=INK):
        from matplotlib.font_manager import FontProperties, findfont
        from PIL import ImageFont

        self._font = ImageFont.truetype(findfont(FontProperties()), round(size * DPI / 72))
        self._colour = colour

    def draw(self, picture, right, baseline, text):
        """Write onto a picture (H, W, 4), rows from the top, ending at column `right` on row `baseline`."""
        from PIL import Image, ImageDraw

        ascent, descent = self._font.getmetrics()
        width = int(self._font.getlength(text)) + 2
        strip = Image.new("RGB", (width, ascent + descent), PAPER)
        ImageDraw.Draw(strip).text((1, ascent), text, font=self._font, fill=self._colour, anchor="ls")
        top, left = baseline - ascent, max(right - width, 0)
        picture[top:top + ascent + descent, left:right, :3] = np.asarray(strip)[:, -(right - left):]


class Sheet:
    """A white picture of width x height pixels that is put together; here y runs down from the upper left corner.

    Bones are drawn last, over all that stands still, in the order in which they came.
    """

    def __init__(self, width, height):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        # A hundredth of a pixel more: the figure's size goes through inches and is rounded down.
        self.figure = Figure(((width + 0.01) / DPI, (height + 0.01) / DPI), dpi=DPI, facecolor=PAPER)
        self._canvas = FigureCanvasAgg(self.figure)
        self.width, self.height = width, height
        self._background = np.full((height, width, 3), 255, dtype=np.uint8)
        self._bones = []

    def text(self, x, y, text, size, colour=INK, **style):
        """Text at a pixel; style: as of matplotlib's texts."""
        put_text(self.figure, x, self.height - y, text, size, colour, **style)

    def image(self, x, y, picture):
        """A picture (h, w, 3) uint8 with its upper left corner at a pixel, all of it on the sheet."""
        self._background[y:y + picture.shape[0], x:x + picture.shape[1]] = picture

    def lines(self, points, colour, width, clip=None, **style):
        """A line (N, 2) through pixels, or markers at them; clip: (x, y, width, height)."""
        from matplotlib.lines import Line2D
        from matplotlib.transforms import IdentityTransform

        line = Line2D(points[:, 0], self.height - points[:, 1], color=colour, linewidth=width,
                      transform=IdentityTransform(), **style)
        self.figure.add_artist(line)
        line.set_clip_box(self._clip(clip))

    def legend(self, x, y, entries, size):
        """Names {name: colour} with a short line each, in a row from a pixel on."""
        for name, colour in entries.items():
            self.lines(np.array([[x, y - 0.45 * size], [x + 1.3 * size, y - 0.45 * size]]), colour, 3.5,
                       solid_capstyle="round")
            self.text(x + 2.1 * size, y, name, size, QUIET)
            x += (3.6 + 0.85 * len(name)) * size

    def room(self, low, high, azim, rectangle, size):
        """A Room within the rectangle (x, y, width, height), with texts of this size."""
        x, y, width, height = rectangle
        room = Room(low, high, azim, (x, self.height - y - height, width, height))
        room.draw(self.figure, size)
        return room

    def bones(self, skeleton, width, joints, clip=None, **style):
        """A skeleton with its joints at pixels (J, 2); style: as of `Bones`."""
        bones = Bones(self.figure, skeleton, width, self._clip(clip), **style)
        self._bones.append((bones.draw, (joints * [1, -1] + [0, self.height],)))

    def bones_in_room(self, room, skeleton, width, pose, **style):
        """A skeleton (J, 3) in a room, and its shadow."""
        bones = Bones(self.figure, skeleton, width, **style)
        self._bones.insert(0, (bones.draw_shadow, (room.view.project(pose * [1, 1, 0])[0],)))
        self._bones.append((bones.draw, room.view.project(pose)))

    def picture(self):
        """The picture: (height, width, 3) uint8 RGB."""
        self.figure.figimage(self._background)
        self._canvas.draw()
        for draw, arguments in self._bones:
            draw(self._canvas.get_renderer(), *arguments)
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()

    def _clip(self, rectangle):
        from matplotlib.transforms import Bbox

        if rectangle is None:
            return None
        x, y, width, height = rectangle
        return Bbox.from_bounds(x, self.height - y - height, width, height)
