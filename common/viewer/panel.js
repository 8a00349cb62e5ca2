// The column beside the poses: errors in numbers, the list of joints, and where the poses come from.
const PANEL_MS = 100; // between updates while it plays: faster nobody reads

const TRAIL_MARK = "M2 12C5 3 8 3 10 8s5 5 8-3"; // a wavy line

// A number of mm; with a true minus, and with a plus where it is a difference.
function signed(value, isDifference) {
  return (value < 0 ? "−" : isDifference ? "+" : "") + Math.abs(value).toFixed(1);
}

// A text that may be broken where names of files have a mark.
function breakable(text) {
  return text.replace(/[-_./]+/g, "$&\u200b");
}

// x, y, z of a joint in the coordinates of the file, in metres; of the small with more digits.
function place({ J, coordinates, metres }, { poses }, frame, joint, digits) {
  const at = 3 * (frame * J + joint);
  const shown = Math.min(Math.max(digits - Math.round(Math.log10(metres)), 0), 12);
  return coordinates
    .map(([component, sign]) => (sign * metres * poses[at + component]).toFixed(shown))
    .map((text) => text.replace(/^-(?=.*[1-9])/, "−").replace("-", ""))
    .join(", ");
}

function drawing(path) {
  const space = "http://www.w3.org/2000/svg";
  const [svg, line] = [document.createElementNS(space, "svg"), document.createElementNS(space, "path")];
  svg.setAttribute("viewBox", "0 0 20 16");
  svg.setAttribute("aria-hidden", "true");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

class Panel {
  constructor(sequence, state, select, toggleTrail) {
    Object.assign(this, { sequence, state });
    this.updated = 0;
    element("title").textContent = sequence.title;
    const labels = sequence.predictions.map((one) => one.label).join(" and ");
    const rate = Number(sequence.fps.toPrecision(4));
    element("subtitle").textContent =
      `${labels}, ${sequence.frames === 1 ? "1 frame" : `${sequence.frames} frames at ${rate} per second`}`;
    this.buildNumbers();
    this.buildJoints(select, toggleTrail);
    this.buildTrailTools(toggleTrail);
    this.buildAbout();
  }

  // A table of errors: a column for each prediction, and of two of them the difference.
  buildNumbers() {
    const { series, measure, predictions, isComparison, frames } = this.sequence;
    if (!measure) return;
    element("numbers").hidden = false;
    element("numbers-title").textContent =
      measure === "distance" ? "Distance between the two, mm" : "Error relative to the root, mm";
    const table = make("table");
    const body = table.createTBody();
    const row = (name, values) => {
      const line = body.insertRow();
      line.append(make("th", "", name));
      return values.map((value, n) => {
        const cell = line.insertCell();
        cell.textContent = signed(value, n === 2);
        return cell;
      });
    };
    const both = isComparison && measure === "error";
    const pair = (values) => (both ? [...values, values[0] - values[1]] : values);
    if (both) {
      const head = table.createTHead().insertRow();
      head.append(
        make("td"),
        ...series.map((one, n) => this.labelled(one.label, "method-" + n)),
        make("th", "", "difference"),
      );
    }
    this.cells = row("This frame", pair(series.map(() => 0)));
    this.cells[0].parentNode.className = "now";
    this.jointRow = row("Selected joint", pair(series.map(() => 0)));
    if (measure === "error") {
      row("MPJPE (P1)", pair(predictions.map((one) => one.errors.mpjpe)));
      row("P-MPJPE (P2)", pair(predictions.map((one) => one.errors.p_mpjpe)));
      if (frames > 1) row("Velocity, per frame", pair(predictions.map((one) => one.errors.mpjve)));
    } else
      row(
        "Whole sequence",
        series.map((one) => one.mean.reduce((a, b) => a + b) / one.mean.length),
      );
    element("figures").append(table);
    if (both) {
      const [first, second] = this.sequence.better;
      const better = first >= second ? 0 : 1;
      const share = Math.round((100 * Math.max(first, second)) / frames);
      element("figures").append(
        make("p", "verdict", `${predictions[better].label} has less error in ${share}\u00a0% of the frames.`),
      );
    }
  }

  labelled(text, className) {
    const cell = make("th");
    cell.append(make("span", className, breakable(text)));
    return cell;
  }

  buildJoints(select, toggleTrail) {
    const { names, sides, series } = this.sequence;
    element("joints").className = ["plain", "", "pair"][series.length];
    element("joints-unit").textContent = series.length ? "mm in this frame" : "x, y, z in m";
    this.rows = names.map((name, j) => {
      const item = make("li");
      const choose = make("button", "joint");
      const dot = make("i", "dot side-" + sides[j]);
      const bars = series.map((_, n) => make("i", series.length > 1 ? "bar method-" + n : "bar"));
      const box = make("span", "bars");
      box.append(...bars);
      const values = make("span", "value");
      choose.append(dot, make("span", "name", name), ...(series.length ? [box] : []), values);
      choose.setAttribute("aria-pressed", "false");
      choose.title = series.length ? `${name}: its error over time` : name;
      choose.addEventListener("click", () => select(this.state.selected === j ? -1 : j));
      const trail = make("button", "trail", "");
      trail.append(drawing(TRAIL_MARK));
      trail.setAttribute("aria-label", `Trail of ${name}`);
      trail.setAttribute("aria-pressed", "false");
      trail.title = `Trail of ${name}`;
      trail.addEventListener("click", () => toggleTrail([j]));
      item.append(choose, trail);
      element("joints").append(item);
      return { choose, trail, bars, values };
    });
  }

  buildTrailTools(toggleTrail) {
    const { names, root } = this.sequence;
    const groups = [
      ["wrists", (name) => name.includes("wrist")],
      ["ankles", (name) => name.includes("ankle")],
      ["root", (_, j) => j === root],
    ];
    element("trail-tools").append(make("span", "quiet", "Trails"));
    this.tools = [];
    for (const [label, belongs] of groups) {
      const joints = names.map((_, j) => j).filter((j) => belongs(names[j], j));
      if (!joints.length) continue;
      const button = make("button", "chip", label);
      button.addEventListener("click", () => toggleTrail(joints));
      element("trail-tools").append(button);
      this.tools.push({ button, joints });
    }
  }

  buildAbout() {
    const { predictions, isComparison } = this.sequence;
    predictions.forEach((one, n) => {
      const details = make("details");
      const summary = make("summary", "", isComparison ? `About ${one.label}` : "About this file");
      const list = make("dl", "about");
      for (const [name, value] of one.rows) list.append(make("dt", "", name), make("dd", "", value));
      details.append(summary, list);
      details.open = n === 0 && !isComparison && matchMedia("(min-width: 900px)").matches;
      element("about-sections").append(details);
    });
  }

  // What a choice has changed: which joint is selected, which trails are on.
  mark() {
    const { trails, selected } = this.state;
    this.rows.forEach(({ choose, trail }, j) => {
      choose.setAttribute("aria-pressed", String(j === selected));
      trail.setAttribute("aria-pressed", String(Boolean(trails[j])));
    });
    for (const { button, joints } of this.tools)
      button.setAttribute("aria-pressed", String(joints.every((j) => trails[j])));
    if (this.jointRow) this.jointRow[0].parentNode.hidden = selected < 0;
  }

  update(frame, now, isPlaying) {
    if (isPlaying && now - this.updated < PANEL_MS) return;
    this.updated = now;
    const { series, J, worst, figures } = this.sequence;
    if (!series.length) {
      this.rows.forEach(({ values }, j) => (values.textContent = place(this.sequence, figures[0], frame, j, 2)));
      return;
    }
    const { selected } = this.state;
    this.fill(this.cells, (n) => series[n].mean[frame]);
    if (selected >= 0) this.fill(this.jointRow, (n) => series[n].errors[frame * J + selected]);
    for (let j = 0; j < J; j++) {
      const { bars, values } = this.rows[j];
      for (let n = 0; n < series.length; n++) {
        bars[n].style.transform = `scaleX(${Math.min(1, series[n].errors[frame * J + j] / worst)})`;
        if (series.length === 1)
          bars[n].style.backgroundColor = css(errorColour(series[n].errors[frame * J + j] / worst));
      }
      values.textContent = series.map((one) => one.errors[frame * J + j].toFixed(0)).join(" | ");
    }
  }

  fill(cells, value) {
    const count = this.sequence.series.length;
    for (let n = 0; n < count; n++) cells[n].textContent = signed(value(n), false);
    if (cells.length > count) cells[count].textContent = signed(value(0) - value(1), true);
  }
}

// The joint that is pointed at, or chosen: where each figure has it, in the coordinates of the file.
class Tip {
  constructor(sequence, state, isVisible) {
    Object.assign(this, { sequence, state, isVisible, joint: -1, updated: 0 });
    this.box = element("tip");
    this.name = this.box.appendChild(make("b"));
    this.lines = sequence.figures.map(() => this.box.appendChild(make("span")));
  }

  update(frame, now, isPlaying) {
    const { hovered, selected } = this.state;
    const joint = hovered >= 0 ? hovered : selected;
    if (joint === this.joint && (joint < 0 || (isPlaying && now - this.updated < PANEL_MS))) return;
    Object.assign(this, { joint, updated: now });
    this.box.hidden = joint < 0;
    if (joint < 0) return;
    const { J, figures, names, measure } = this.sequence;
    this.name.textContent = names[joint];
    figures.forEach((figure, n) => {
      const who = figures.length > 1 ? `${figure.label}: ` : "";
      const error =
        figure.errors && measure === "error" ? `, error ${figure.errors[frame * J + joint].toFixed(0)} mm` : "";
      this.lines[n].textContent = `${who}${place(this.sequence, figure, frame, joint, 3)} m${error}`;
      this.lines[n].hidden = !this.isVisible(n);
    });
  }
}
