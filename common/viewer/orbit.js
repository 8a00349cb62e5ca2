// The viewer's own camera: it looks at a point from some direction and distance, with perspective. z is up, in metres.
const HALF_VIEW = Math.tan((15 * Math.PI) / 180); // of the smaller side of the picture
const NEAREST = 0.05; // metres in front of the camera: what is nearer is not drawn
const STEEPEST = 1.55; // radians: straight down would have no "up"
const [CLOSEST, FARTHEST] = [0.4, 400]; // metres from the camera to what it looks at
const TURN_MS = 260;
const FILLED = 0.86; // of the picture, by all that is to be seen
const SAMPLED = 200; // frames, of which a picture that holds them is a picture that holds all
const BESIDE = 0.3; // metres beyond what nearly all joints cover: what is farther off has gone astray

// Joints [x, y, z, ...] of frames of the whole sequence; of each figure about its root, or where they are.
function sampledJoints({ figures, frames, J, root }, aboutRoot) {
  const step = Math.ceil(frames / SAMPLED);
  const joints = [];
  for (const { poses } of figures) {
    for (let t = 0; t < frames; t += step) {
      const middle = 3 * (t * J + root);
      for (let at = 3 * t * J; at < 3 * (t + 1) * J; at++)
        joints.push(poses[at] - (aboutRoot && at % 3 < 2 ? poses[middle + (at % 3)] : 0));
    }
  }
  for (let axis = 0; axis < 3; axis++) {
    const sorted = Float64Array.from(joints.filter((_, i) => i % 3 === axis)).sort();
    const low = sorted[Math.floor(0.005 * sorted.length)] - BESIDE;
    const high = sorted[Math.floor(0.995 * (sorted.length - 1))] + BESIDE;
    for (let i = axis; i < joints.length; i += 3) joints[i] = Math.min(Math.max(joints[i], low), high);
  }
  return Float64Array.from(joints);
}

class Orbit {
  // recordedFrom of the sequence: where the recording camera looked, or null.
  constructor(sequence) {
    this.sequence = sequence;
    this.everywhere = sampledJoints(sequence, false);
    this.body = sampledJoints(sequence, true);
    this.isFitted = false; // the view shows all there is to see, and the user has not moved it
    this.yaw = 0; // of the camera about the target, from x towards y
    this.pitch = 0; // above the horizon
    this.distance = 4;
    this.target = new Float64Array(3);
    this.right = new Float64Array(3);
    this.up = new Float64Array(3);
    this.back = new Float64Array(3); // from the target to the camera
    this.from = new Float64Array(6);
    this.to = new Float64Array(6); // yaw, pitch, distance, target: both ends of a turn that is under way
    this.isTurning = false;
    this.started = 0;
    this.aim();
  }

  aim(yaw = this.yaw, pitch = this.pitch) {
    const cy = Math.cos(yaw);
    const sy = Math.sin(yaw);
    const cp = Math.cos(pitch);
    const sp = Math.sin(pitch);
    const { right, up, back } = this;
    right[0] = -sy;
    right[1] = cy;
    up[0] = -sp * cy;
    up[1] = -sp * sy;
    up[2] = cp;
    back[0] = cp * cy;
    back[1] = cp * sy;
    back[2] = sp;
  }

  // The user moves it: no turn goes on.
  leave() {
    this.isTurning = false;
    this.isFitted = false;
  }

  turn(dx, dy) {
    this.leave();
    this.yaw -= dx * 0.008;
    this.pitch = Math.min(STEEPEST, Math.max(-0.3, this.pitch + dy * 0.008));
    this.aim();
  }

  zoom(factor) {
    this.leave();
    this.distance = Math.min(FARTHEST, Math.max(CLOSEST, this.distance * factor));
  }

  // Move by pixels of a picture whose smaller side is `side` pixels long.
  pan(dx, dy, side) {
    this.leave();
    const metres = (2 * HALF_VIEW * this.distance) / side;
    for (let i = 0; i < 3; i++) this.target[i] += metres * (dy * this.up[i] - dx * this.right[i]);
  }

  // Turn smoothly to a view; at once where motion is unwelcome or `now` says so.
  go(yaw, pitch, distance, target, now) {
    const shortest = Math.atan2(Math.sin(yaw - this.yaw), Math.cos(yaw - this.yaw));
    this.from.set([this.yaw, this.pitch, this.distance, ...this.target]);
    this.to.set([this.yaw + shortest, pitch, distance, ...target]);
    this.started = performance.now();
    this.isTurning = true;
    if (now || matchMedia("(prefers-reduced-motion: reduce)").matches) this.started -= TURN_MS + 1;
    this.step(performance.now());
  }

  // One step of a turn; whether anything moved.
  step(now) {
    if (!this.isTurning) return false;
    const share = Math.min(1, Math.max(0, (now - this.started) / TURN_MS));
    const eased = share * share * (3 - 2 * share);
    const at = (i) => this.from[i] + (this.to[i] - this.from[i]) * eased;
    this.yaw = at(0);
    this.pitch = at(1);
    this.distance = at(2);
    for (let i = 0; i < 3; i++) this.target[i] = at(3 + i);
    this.aim();
    this.isTurning = share < 1;
    return true;
  }

  // The target and the distance from which a direction shows all of the sequence in a port, or the person at `root`,
  // where the camera follows: the nearest point from which no joint leaves the picture. The camera (R, U, B) along
  // right, up and back has a joint (r, u, b) in it for
  //   |r - R| <= across (B - b)  and  -below (B - b) <= u - U <= above (B - b).
  fit(yaw, pitch, port, root) {
    this.aim(yaw, pitch);
    const { right, up, back } = this;
    const tangent = (pixels) => (FILLED * pixels) / this.focal(port);
    const across = tangent(port.width / 2);
    const above = tangent(Math.max(port.height / 2 - port.head, port.height / 4));
    const below = tangent(Math.max(port.height / 2 - port.foot, port.height / 4));
    const joints = root ? this.body : this.everywhere;
    const [x, y] = root || [0, 0];
    const most = [-Infinity, -Infinity, -Infinity, -Infinity]; // to the right, the left, above, below
    let middle = 0; // along back
    for (let i = 0; i < joints.length; i += 3) {
      const [r, u, b] = [right, up, back].map(
        (axis) => (joints[i] + x) * axis[0] + (joints[i + 1] + y) * axis[1] + joints[i + 2] * axis[2],
      );
      most[0] = Math.max(most[0], across * b + r);
      most[1] = Math.max(most[1], across * b - r);
      most[2] = Math.max(most[2], above * b + u);
      most[3] = Math.max(most[3], below * b - u);
      middle += (3 * b) / joints.length;
    }
    const B = Math.max(
      (most[0] + most[1]) / (2 * across),
      (most[2] + most[3]) / (above + below),
      middle + CLOSEST,
    );
    const R = (most[0] - most[1]) / 2;
    const U = (most[2] - most[3] + (below - above) * B) / 2;
    const target = [0, 1, 2].map((i) => R * right[i] + U * up[i] + middle * back[i]);
    this.aim();
    return { target, distance: B - middle };
  }

  // Yaw and pitch of a preset; forward: where the person looks, (x, y) of length 1.
  direction(name, forward) {
    const ahead = Math.atan2(forward[1], forward[0]);
    if (name === "front") return [ahead, 0.1];
    if (name === "side") return [ahead - Math.PI / 2, 0.1];
    if (name === "top") return [ahead, STEEPEST];
    const seen = this.sequence.recordedFrom;
    if (!seen) return [ahead + 0.55, 0.22];
    const pitch = Math.asin(Math.min(1, Math.max(-1, -seen[2])));
    const yaw = Math.atan2(-seen[1], -seen[0]);
    return name === "camera" ? [yaw, pitch] : [yaw + 0.4, Math.max(pitch, 0.2)];
  }

  // Project `count` points, metres in `points` from number `start` on and moved by shift (3), to out (x, y, depth each)
  // in pixels of a port {x, y, width, height}. depth: metres in front of the camera.
  project(points, start, count, shift, port, out) {
    const { right, up, back, target } = this;
    const cx = port.x + port.width / 2;
    const cy = port.y + port.height / 2;
    const focal = this.focal(port);
    for (let i = 0, at = 3 * start, to = 0; i < count; i++, at += 3, to += 3) {
      const x = points[at] + shift[0] - target[0];
      const y = points[at + 1] + shift[1] - target[1];
      const z = points[at + 2] + shift[2] - target[2];
      const depth = this.distance - (x * back[0] + y * back[1] + z * back[2]);
      const scale = focal / Math.max(depth, NEAREST);
      out[to] = cx + (x * right[0] + y * right[1] + z * right[2]) * scale;
      out[to + 1] = cy - (x * up[0] + y * up[1] + z * up[2]) * scale;
      out[to + 2] = depth;
    }
  }

  // Pixels per metre at a depth of one metre.
  focal(port) {
    return Math.min(port.width, port.height) / (2 * HALF_VIEW);
  }
}
