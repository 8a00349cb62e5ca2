// Time: which frame is shown when. Frames last as long as the file says, also where they are uneven.
const LONGEST_STEP = 250; // ms: a page that was hidden goes on where it was
const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4];

class Clock {
  constructor(times) {
    this.times = times; // of the frames, and of the end of the last
    this.frames = times.length - 1;
    this.frame = 0;
    this.time = 0; // seconds
    this.playing = false;
    this.loop = true;
    this.speed = 1;
    this.last = 0; // when the page was drawn last, ms
    this.hasWrapped = false; // whether the last step led back to the beginning
  }

  seek(frame) {
    this.frame = Math.min(this.frames - 1, Math.max(0, Math.round(frame) || 0));
    this.time = this.times[this.frame];
  }

  play(now) {
    if (this.frame === this.frames - 1) this.seek(0);
    this.playing = true;
    this.last = now;
  }

  pause() {
    this.playing = false;
    this.time = this.times[this.frame];
  }

  // Go on to the moment `now` (ms), or to where the video is (seconds; below 0: there is none).
  // Whether the frame changed.
  advance(now, videoTime) {
    const before = this.frame;
    this.hasWrapped = false;
    this.time =
      videoTime >= 0 ? videoTime : this.time + (this.speed * Math.min(now - this.last, LONGEST_STEP)) / 1000;
    this.last = now;
    const end = this.times[this.frames];
    if (this.time >= end) {
      if (this.loop) {
        this.time %= end;
        this.hasWrapped = true;
      } else {
        this.seek(this.frames - 1);
        this.playing = false;
        return true;
      }
    }
    this.frame = frameAt(this.times, this.time, this.frame);
    return this.frame !== before;
  }

  // A moment well inside a frame, at which a video shows that frame.
  middle(frame) {
    return (this.times[frame] + this.times[frame + 1]) / 2;
  }
}
