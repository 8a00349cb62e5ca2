// The column beside the poses: errors in numbers, the list of joints, and where the poses come from.
const PANEL_MS = 100; // between updates while it plays: faster nobody reads

class Panel {
  constructor(sequence, state, select, toggleTrail) {
    Object.assign(this, { sequence, state });
    this.updated = 0;
    element("title").textContent = sequence.title;
    const labels = sequence.predictions.map((one) => one.label).join(" and ");
    element("subtitle").textContent = `${labels}, ${sequence.frames} frames at ${Number(sequence.fps.toFixed(2))} per second`;
    this.buildNumbers();
    this.buildJoints(select, toggleTrail);
    this.buildTrailTools(toggleTrail);
    this.buildAbout();
  }

  // A table of errors: a column for each prediction, and of two of them the difference.
  buildNumbers() {
    const { series, measure, predictions, isComparison } = this.sequence;
    if (!measure) return;
    element("numbers").hidden = false;
    element("numbers-title").textContent = measure === "distance" ? "Distance between the two" : "Error, relative to the root";
    const table = make("table");
    this.cells = [];
    const row = (name, values, unit = "mm") => {
      const line = table.insertRow();
      line.append(make("th", "", name));
      const cells = values.map((value) => line.insertCell());
      cells.forEach((cell, n) => (cell.textContent = values[n] === null ? "" : values[n].toFixed(1)));
      line.insertCell().textContent = unit;
      return cells;
    };
    const both = isComparison && measure === "error";
    const pair = (values) => (both ? [...values, values[0] - values[1]] : values);
    if (both) {
      const head = table.createTHead().insertRow();
      head.append(make("td"));
      series.forEach((one, n) => head.append(this.labelled(one.label, "method-" + n)));
      head.append(make("th", "", "difference"), make("td"));
    }
    this.cells = row("This frame", pair(series.map(() => 0)));
    this.cells[0].parentNode.className = "now";
    this.jointRow = row("Joint in this frame", pair(series.map(() => 0)));
    if (measure === "error") {
      row("MPJPE (P1)", pair(predictions.map((one) => one.errors.mpjpe)));
      row("P-MPJPE (P2)", pair(predictions.map((one) => one.errors.p_mpjpe)));
      row("Velocity", pair(predictions.map((one) => one.errors.mpjve)), "mm/frame");
    } else row("Sequence", series.map((one) => one.mean.reduce((a, b) => a + b) / one.mean.length));
    element("figures").append(table);
    if (both) {
      const [first, second] = this.sequence.better;
      const better = first >= second ? 0 : 1;
      const share = Math.round((100 * Math.max(first, second)) / this.sequence.frames);
      element("figures").append(make("p", "verdict", `${predictions[better].label} has less error in ${share} % of the frames.`));
    }
  }

  labelled(text, className) {
    const cell = make("th");
    cell.append(make("i", "dot " + className), document.createTextNode(text));
    return cell;
  }

  buildJoints(select, toggleTrail) {
    const { names, sides, series } = this.sequence;
    this.rows = names.map((name, j) => {
      const item = make("li");
      const choose = make("button", "joint");
      const dot = make("i", "dot side-" + sides[j]);
      const bars = series.map((_, n) => make("i", series.length > 1 ? "bar method-" + n : "bar"));
      const box = make("span", "bars");
      box.append(...bars);
      const values = make("span", "value");
      choose.append(dot, make("span", "name", name), box, values);
      choose.setAttribute("aria-pressed", "false");
      choose.title = series.length ? `${name}: its error over time` : name;
      choose.addEventListener("click", () => select(this.state.selected === j ? -1 : j));
      const trail = make("button", "trail", "");
      trail.append(make("span", "trail-mark"));
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
    const groups = [["wrists", (name) => name.includes("wrist")], ["ankles", (name) => name.includes("ankle")], ["root", (_, j) => j === root]];
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
    for (const { button, joints } of this.tools) button.setAttribute("aria-pressed", String(joints.every((j) => trails[j])));
    if (this.jointRow) this.jointRow[0].parentNode.hidden = selected < 0;
  }

  update(frame, now, isPlaying) {
    if (!this.sequence.measure || (isPlaying && now - this.updated < PANEL_MS)) return;
    this.updated = now;
    const { series, J, worst } = this.sequence;
    const { selected } = this.state;
    this.fill(this.cells, (n) => series[n].mean[frame]);
    if (selected >= 0) this.fill(this.jointRow, (n) => series[n].errors[frame * J + selected]);
    for (let j = 0; j < J; j++) {
      const { bars, values } = this.rows[j];
      for (let n = 0; n < series.length; n++) {
        bars[n].style.transform = `scaleX(${Math.min(1, series[n].errors[frame * J + j] / worst)})`;
        if (series.length === 1) bars[n].style.backgroundColor = css(errorColour(series[n].errors[frame * J + j] / worst));
      }
      values.textContent = series.map((one) => one.errors[frame * J + j].toFixed(0)).join(" | ");
    }
  }

  fill(cells, value) {
    const count = this.sequence.series.length;
    for (let n = 0; n < count; n++) cells[n].textContent = value(n).toFixed(1);
    if (cells.length > count) {
      const difference = value(0) - value(1);
      cells[count].textContent = (difference > 0 ? "+" : "") + difference.toFixed(1);
    }
  }
}
