// The pointer on the 3D picture: turn, pan and zoom, with a mouse or with fingers, and joints to point at.
const CLICK = 6; // CSS pixels that a click may move
const LINE = 16; // pixels
const REACH = { mouse: 16, touch: 30 };

// How far a wheel was turned; Firefox counts in lines.
function wheelPixels(event) {
  return event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1);
}

class Gestures {
  constructor(canvas, orbit, scene, { changed, hover, select, toggleTrail }) {
    Object.assign(this, { canvas, orbit, scene, changed, hover, select, toggleTrail });
    this.pointers = new Map();
    this.joint = -1; // under the pointer
    this.moved = 0;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.lift(event));
    canvas.addEventListener("lostpointercapture", (event) => this.pointers.delete(event.pointerId)); // however it ends
    canvas.addEventListener("pointerleave", () => this.hover(-1));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.pointers.size === 1) this.moved = 0;
    else this.moved = Infinity; // two fingers never click
  }

  move(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) {
      this.point(event);
      return;
    }
    const [dx, dy] = [event.clientX - pointer.x, event.clientY - pointer.y];
    const before = this.pointers.size === 2 ? this.spread() : 0;
    Object.assign(pointer, { x: event.clientX, y: event.clientY });
    this.moved += Math.hypot(dx, dy);
    const side = Math.min(this.canvas.clientWidth, this.canvas.clientHeight);
    if (this.pointers.size === 2) {
      this.orbit.zoom(before / Math.max(this.spread(), 1));
      this.orbit.pan(dx / 2, dy / 2, side); // each finger moves the middle by half
    } else if (event.shiftKey || event.buttons & 6) this.orbit.pan(dx, dy, side);
    else this.orbit.turn(dx, dy);
    this.hover(-1);
    this.changed();
  }

  spread() {
    const [a, b] = [...this.pointers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  }

  lift(event) {
    const isClick = this.pointers.delete(event.pointerId) && this.moved < CLICK;
    if (!isClick || event.button !== 0) return;
    this.point(event);
    if (event.shiftKey && this.joint >= 0) this.toggleTrail([this.joint]);
    else this.select(this.joint);
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const unit = this.scene.unit;
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    this.joint = this.scene.pick(
      x * unit,
      y * unit,
      (event.pointerType === "touch" ? REACH.touch : REACH.mouse) * unit,
    );
    this.hover(this.joint);
  }

  wheel(event) {
    event.preventDefault();
    this.orbit.zoom(Math.exp(wheelPixels(event) * 0.0012));
    this.changed();
  }
}
