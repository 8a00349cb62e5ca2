// Colours, and the pictures of limbs and joints that are drawn with them.
//
// Limbs and joints are drawn on a 2D canvas out of small pictures that are shaded once: a strip across a tube, which is
// stretched along each limb, and a ball. That looks like WebGL, needs no graphics card (headless browsers, old laptops
// and phones that have none, or one that is blocked, draw the same), sorts by depth as painters do, and some hundred
// such pictures take a fraction of a millisecond: the number of frames does not matter.
const SIDES = 3; // centre, left, right
const STEPS = 32; // of the scale of errors
const SHADES = 9; // a tube's light depends on how it lies: pictures for as many directions
const STRIP = 24; // pixels across a tube, BALL across a joint, CELL along a strip
const BALL = 64;
const CELL = 6;
const LIGHT = [-0.45, 0.62, 0.64]; // from the upper left of the picture, in front
// Okabe and Ito's blue, vermilion, green and purple, as in the suite's pictures; lighter on dark.
const THEMES = {
  light: {
    sides: ["#4a5159", "#0072b2", "#d55e00"],
    truth: "#8d969d",
    methods: ["#009e73", "#b95f98"],
    edge: "#ffffff",
    floor: "#e9edf0",
    line: "#d3d9de",
    shadow: "#b9c2c9",
    ink: "#22262a",
    quiet: "#5c656d",
    accent: "#0072b2",
  },
  dark: {
    sides: ["#c3cad1", "#3f9fe0", "#f27a2c"],
    truth: "#7b848d",
    methods: ["#1fbd8f", "#d588ba"],
    edge: "#101316",
    floor: "#1b2025",
    line: "#2b3239",
    shadow: "#0b0e10",
    ink: "#e8ebee",
    quiet: "#98a2ab",
    accent: "#56b4e9",
  },
};
// Plasma of matplotlib without its ends: even steps for the eye, with any colour vision.
const ERROR_SCALE = ["#46039f", "#7201a8", "#9c179e", "#bd3786", "#d8576b", "#ed7953", "#fb9f3a", "#fdca26"].map(rgb);
const TRUTH_COLOUR = SIDES; // places in the palette: the sides, the truth, each method's sides, the scale of errors
const METHOD_COLOUR = SIDES + 1;
const ERROR_COLOUR = METHOD_COLOUR + 2 * SIDES;

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function mix(a, b, share) {
  return a.map((value, i) => value + (b[i] - value) * share);
}

function errorColour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (ERROR_SCALE.length - 1);
  const at = Math.min(Math.floor(place), ERROR_SCALE.length - 2);
  return mix(ERROR_SCALE[at], ERROR_SCALE[at + 1], place - at);
}

function css(colour) {
  return `rgb(${colour.map(Math.round).join(" ")})`;
}

function currentTheme() {
  return matchMedia("(prefers-color-scheme: dark)").matches ? THEMES.dark : THEMES.light;
}

// All colours that a limb can have, [r, g, b]. Of a method, the left side is lighter and the right side darker.
function palette(theme) {
  const colours = [...theme.sides.map(rgb), rgb(theme.truth)];
  for (const method of theme.methods.map(rgb))
    colours.push(method, mix(method, [255, 255, 255], 0.38), mix(method, [0, 0, 0], 0.3));
  for (let step = 0; step < STEPS; step++) colours.push(errorColour(step / (STEPS - 1)));
  return colours;
}

// How a surface of colour `base` looks whose normal has the part `towards` towards the light; gloss where it faces it.
function shaded(base, towards, out, at) {
  const diffuse = 0.62 + 0.46 * Math.max(towards, 0);
  const gloss = 90 * Math.max(towards, 0) ** 24;
  for (let i = 0; i < 3; i++) out[at + i] = Math.min(255, base[i] * diffuse + gloss);
}

// {strips, balls}: canvases with a row of strips, and a ball, for each colour of the palette.
function makeSprites(theme) {
  const colours = palette(theme);
  const edge = rgb(theme.edge);
  const strips = new OffscreenPicture(SHADES * CELL, colours.length * STRIP);
  const balls = new OffscreenPicture(BALL, colours.length * BALL);
  colours.forEach((colour, row) => {
    for (let shade = 0; shade < SHADES; shade++) paintStrip(strips, shade, row, colour, edge);
    paintBall(balls, row, colour, edge);
  });
  return { strips: strips.finish(), balls: balls.finish() };
}

function paintStrip(picture, shade, row, colour, edge) {
  const slope = (2 * shade) / (SHADES - 1) - 1; // the light's part across the tube
  const across = slope * Math.hypot(LIGHT[0], LIGHT[1]);
  for (let y = 0; y < STRIP; y++) {
    const u = (2 * (y + 0.5)) / STRIP - 1;
    for (let x = 0; x < CELL; x++) {
      const at = picture.at(shade * CELL + x, row * STRIP + y);
      const inside = u / 0.76; // the rest is an edge in the colour of the paper: crossing limbs stay apart
      if (Math.abs(inside) < 1)
        shaded(colour, inside * across + Math.sqrt(1 - inside * inside) * LIGHT[2], picture.pixels, at);
      else picture.pixels.set(edge, at);
      picture.pixels[at + 3] = Math.abs(u) > 0.93 ? 0 : 255;
    }
  }
}

function paintBall(picture, row, colour, edge) {
  for (let y = 0; y < BALL; y++) {
    for (let x = 0; x < BALL; x++) {
      const u = ((2 * (x + 0.5)) / BALL - 1) / 0.84;
      const v = ((2 * (y + 0.5)) / BALL - 1) / 0.84;
      const radius = Math.hypot(u, v);
      const at = picture.at(x, row * BALL + y);
      if (radius < 1)
        shaded(colour, u * LIGHT[0] - v * LIGHT[1] + Math.sqrt(1 - radius * radius) * LIGHT[2], picture.pixels, at);
      else picture.pixels.set(edge, at);
      picture.pixels[at + 3] = 255 * Math.min(1, Math.max(0, (1.16 - radius) * 16));
    }
  }
}

class OffscreenPicture {
  constructor(width, height) {
    this.canvas = document.createElement("canvas");
    this.canvas.width = width;
    this.canvas.height = height;
    this.context = this.canvas.getContext("2d");
    this.image = this.context.createImageData(width, height);
    this.pixels = this.image.data;
  }

  at(x, y) {
    return 4 * (y * this.canvas.width + x);
  }

  finish() {
    this.context.putImageData(this.image, 0, 0);
    return this.canvas;
  }
}
