// The input: the video, frame by frame in step with the poses, and the 2D skeleton over it.
//
// The video comes out of the page as a blob, which every browser seeks in (Safari plays no data URIs). While it plays
// it is the clock: the poses follow the frame that is on the screen, so that neither can run away from the other.
const WHOLE = [0, 0, 1, 1];
const LONGEST_WAIT = 1500; // ms that the poses wait for a video that is loading

// The part of the picture that the 2D joints of all frames cover, and some more: [left, top, right, bottom], as shares.
function coveredRegion(inputs) {
  const region = [1, 1, 0, 0];
  for (const { points, size } of inputs)
    for (let i = 0; i < points.length; i++) {
      const axis = i % 2;
      const share = points[i] / size[axis];
      if (share < region[axis]) region[axis] = share; // never of NaN
      if (share > region[2 + axis]) region[2 + axis] = share;
    }
  const more = 0.02 + 0.1 * Math.max(region[2] - region[0], region[3] - region[1]);
  const shown = region.map((edge, i) => Math.min(Math.max(edge + (i < 2 ? -more : more), 0), 1));
  return shown[0] < shown[2] && shown[1] < shown[3] ? shown : WHOLE;
}

// Whether an input has any joint in a frame.
function hasJoint({ points, sides2d }, frame) {
  const count = 2 * sides2d.length;
  for (let i = count * frame; i < count * (frame + 1); i++) if (!Number.isNaN(points[i])) return true;
  return false;
}

class Picture {
  constructor(sequence, clock, changed) {
    Object.assign(this, { sequence, clock });
    this.inputs = sequence.inputs;
    this.video = element("video");
    this.canvas = element("points");
    this.context = this.canvas.getContext("2d");
    this.wanted = -1; // the frame to seek to when the seek that is under way has ended
    this.presented = -1; // seconds, of the picture that is on the screen
    this.hasVideo = false;
    const { video } = sequence;
    const bytes = takeBytes("video");
    if (bytes) this.load(bytes, video.frames, changed);
    if (video && video.notice) this.note(video.notice);
    this.isOn = Boolean(bytes) || this.inputs.length > 0;
    this.region = bytes ? WHOLE : coveredRegion(this.inputs);
    element("input").hidden = !this.isOn && !(video && video.notice);
    element("picture").hidden = !this.isOn;
    const [width, height] = this.inputs.length ? this.inputs[0].size : [16, 9];
    const [left, top, right, bottom] = this.region;
    this.shape(width * (right - left), height * (bottom - top));
  }

  shape(width, height) {
    element("picture").style.setProperty("--shape", width / height);
  }

  note(text) {
    element("notice").textContent = text;
    element("notice").hidden = false;
  }

  load(bytes, frames, changed) {
    const { video } = this;
    this.end = this.clock.times[frames]; // the video may end before the poses do
    this.frames = frames;
    video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    video.addEventListener("loadeddata", () => {
      this.hasVideo = true;
      video.hidden = false;
      if (!this.inputs.length) this.shape(video.videoWidth, video.videoHeight);
      if (this.clock.playing) this.play();
      else this.show(this.clock.frame);
      changed();
    });
    video.addEventListener("error", () => {
      this.hasVideo = false;
      video.hidden = true;
      this.note("This browser does not play the video (H.264).");
      changed();
    });
    video.addEventListener("seeked", () => {
      if (this.wanted >= 0) this.show(this.wanted);
    });
    if (video.requestVideoFrameCallback) {
      const step = (_, { mediaTime }) => {
        if (!video.seeking) this.presented = mediaTime + 1e-4; // times in a file are rounded
        video.requestVideoFrameCallback(step);
      };
      video.requestVideoFrameCallback(step);
    }
  }

  // Show the picture of a frame while paused. One seek at a time: of those asked for meanwhile the last counts.
  show(frame) {
    if (!this.hasVideo) return;
    this.wanted = -1;
    if (frame >= this.frames) return;
    if (this.video.seeking) this.wanted = frame;
    else this.video.currentTime = this.clock.middle(frame);
  }

  play() {
    if (!this.hasVideo || this.clock.frame >= this.frames) return;
    this.presented = -1;
    this.waitsSince = 0;
    this.video.playbackRate = this.clock.speed;
    this.video.currentTime = this.clock.middle(this.clock.frame);
    this.video.play().catch(() => {}); // where it may not play, the poses go on without it
  }

  pause() {
    if (this.hasVideo) this.video.pause();
  }

  // Where the video is, in seconds, while it leads; below 0 where it does not, or has come to its end.
  time() {
    const { video } = this;
    if (!this.hasVideo || video.paused || video.ended || video.currentTime >= this.end - 0.002) return -1;
    if (video.seeking || video.readyState < 2) {
      this.waitsSince ||= performance.now();
      return performance.now() - this.waitsSince < LONGEST_WAIT ? this.clock.time : -1;
    }
    this.waitsSince = 0;
    return this.presented >= 0 ? this.presented : Math.max(video.currentTime, this.clock.time);
  }

  resize(theme) {
    const box = element("picture").getBoundingClientRect();
    this.unit = devicePixelRatio || 1;
    this.canvas.width = Math.round(box.width * this.unit);
    this.canvas.height = Math.round(box.height * this.unit);
    this.theme = theme;
  }

  draw(frame) {
    const { context } = this;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.theme) return;
    if (this.hasVideo && this.isOver !== frame >= this.frames) {
      this.isOver = frame >= this.frames; // the poses go on
      this.video.style.visibility = this.isOver ? "hidden" : "";
    }
    context.lineCap = "round";
    for (let n = 0; n < this.inputs.length; n++) this.drawPoints(this.inputs[n], frame);
    if (this.inputs.length && !this.inputs.some((input) => hasJoint(input, frame))) this.drawAbsence();
  }

  drawAbsence() {
    const { context, canvas, theme, unit } = this;
    const at = ["no 2D joints in this frame", canvas.width / 2, canvas.height - 12 * unit, canvas.width - 16 * unit];
    context.font = `${13 * unit}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.lineWidth = 4 * unit; // as of the joints, an edge sets it off from any picture
    context.lineJoin = "round";
    context.strokeStyle = theme.edge;
    context.strokeText(...at);
    context.fillStyle = theme.ink;
    context.fillText(...at);
  }

  drawPoints(input, frame) {
    const { context, sequence } = this;
    const { points, limbs2d, sides2d } = input;
    const [left, top, right, bottom] = this.region;
    const x = (point) => ((points[point] / input.size[0] - left) / (right - left)) * this.canvas.width;
    const y = (point) => ((points[point + 1] / input.size[1] - top) / (bottom - top)) * this.canvas.height;
    const K = sides2d.length;
    const start = 2 * frame * K;
    const byMethod = sequence.isComparison && this.inputs.length > 1;
    for (let pass = 0; pass < 2; pass++) {
      // first an edge, which sets the lines off from any picture
      for (let side = 0; side < SIDES; side++) {
        context.lineWidth = (pass ? 2.5 : 4.5) * this.unit;
        const colour = byMethod ? this.theme.methods[input.method] : this.theme.sides[side];
        context.strokeStyle = context.fillStyle = pass ? colour : this.theme.edge;
        context.beginPath();
        for (let l = 0; l < limbs2d.length; l++) {
          const a = start + 2 * limbs2d[l][0];
          const b = start + 2 * limbs2d[l][1];
          const isThere = points[a] + points[b] + points[a + 1] + points[b + 1] < Infinity; // NaN: absent
          if (limbs2d[l][2] !== side || !isThere) continue;
          context.moveTo(x(a), y(a));
          context.lineTo(x(b), y(b));
        }
        context.stroke();
        context.beginPath();
        for (let k = 0; k < K; k++) {
          const at = start + 2 * k;
          if (sides2d[k] !== side || !(points[at] + points[at + 1] < Infinity)) continue;
          context.moveTo(x(at) + 3 * this.unit, y(at));
          context.arc(x(at), y(at), (pass ? 2.5 : 3.5) * this.unit, 0, 7);
        }
        context.fill();
      }
    }
  }
}
