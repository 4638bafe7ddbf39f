// How the page is written: elements and their text. What comes from a request goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a child that is no node becomes text. */
export function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Sets the text of an element where it differs: what says the same is not laid out again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets a sentence in which what stands between backticks is code, as the proxy's messages have it. */
export function tell(node, text) {
  if (node.told === text) return;
  node.told = text;
  const parts = text.split("`");
  // An odd backtick is one that belongs to somebody's text.
  node.replaceChildren(...(parts.length % 2 === 0 ? [text]
    : parts.map((part, index) => (index % 2 === 0 ? part : make("code", {}, part)))));
}

/** Sets the classes of an element where they differ. */
export function dress(node, classes) {
  if (node.className !== classes) node.className = classes;
}

/**
 * A table whose rows are written over in place, for a few hundred at most.
 *
 * A column: `head`, `cell(item, state)` with the text, and if wanted `class`, `mark(item)` with the name of a shape to
 * stand before the text, `press(item)` that makes the text a button, `write` (`tell` for sentences with code in them).
 */
export class Table {
  constructor(caption, columns, most = 200) {
    this.columns = columns;
    this.most = most;
    this.items = [];
    this.body = make("tbody");
    this.more = make("p", { class: "soft more" });
    const heads = columns.map((column) => make("th", { scope: "col", class: column.class ?? "" }, column.head));
    this.table = make("table", { class: "plain" }, make("caption", { class: "unseen" }, caption),
                      make("thead", {}, make("tr", {}, ...heads)), this.body);
    this.node = make("div", { class: "tabled" }, this.table, this.more);
  }

  /** Shows these; `total` says how many there are, where not all of them came. */
  fill(items, state, total = items.length) {
    this.items = items;
    const shown = Math.min(items.length, this.most);
    while (this.body.rows.length > shown) this.body.deleteRow(-1);
    while (this.body.rows.length < shown) this.body.append(this.#row(this.body.rows.length));
    for (let index = 0; index < shown; index += 1) this.#write(this.body.rows[index].cells, items[index], state);
    say(this.more, total > shown ? `and ${total - shown} more` : "");
    this.table.hidden = shown === 0;
  }

  #row(index) {
    const cells = this.columns.map((column, place) => {
      const text = column.press ? make("button", { type: "button", class: "plainly" }) : make("span");
      if (column.press) text.addEventListener("click", () => column.press(this.items[index]));
      const inside = make("div", {}, ...(column.mark ? [make("i", { "aria-hidden": "true" })] : []), text);
      const [name, scope] = place === 0 ? ["th", { scope: "row" }] : ["td", {}];
      return make(name, { ...scope, class: column.class ?? "", "data-head": column.head }, inside);
    });
    return make("tr", {}, ...cells);
  }

  #write(cells, item, state) {
    this.columns.forEach((column, place) => {
      const inside = cells[place].firstChild;
      (column.write ?? say)(inside.lastChild, column.cell(item, state));
      if (column.mark) dress(inside.firstChild, `mark ${column.mark(item)}`);
    });
  }
}
