// h() describes an element, show() makes the page match the description.
//
// Must stay true: everything from outside becomes a text node or an attribute's value, never markup;
// nodes that stay keep their focus, selection and what was typed into them. Not here: what to show.

const SVG = "http://www.w3.org/2000/svg";

/** Describes one element. `props` are attributes, `on…` functions, and:
 *  key    tells siblings apart, so that a row that moves stays itself;
 *  flash  a value; when it changes the element lights up once;
 *  ref    a function that gets the node when it is made. */
export function h(tag, props, ...kids) {
  return { tag, props: props ?? {}, kids: given(kids) };
}

/** Without what is not there, so that `condition && h(…)` can be written. */
const given = (kids) => kids.flat(Infinity).filter((kid) => kid || kid === 0);

/** Makes the children of `parent` what `kids` describe. */
export function show(parent, ...kids) {
  children(parent, given(kids), false);
}

function make(kid, svg) {
  if (typeof kid !== "object") return document.createTextNode(kid);
  const inside = svg || kid.tag === "svg";
  const node = inside ? document.createElementNS(SVG, kid.tag) : document.createElement(kid.tag);
  update(node, kid, inside);
  kid.props.ref?.(node);
  return node;
}

function update(node, kid, svg) {
  if (typeof kid !== "object") {
    if (node.data !== String(kid)) node.data = kid;
    return;
  }
  if (node.described === kid) return;
  const before = node.described?.props ?? {};
  const names = new Set([...Object.keys(before), ...Object.keys(kid.props)]);
  names.delete("value");
  for (const name of names) {
    if (before[name] !== kid.props[name]) set(node, name, kid.props[name]);
  }
  children(node, kid.kids, svg);
  // After the children: a select takes only a value that one of its options has. Who types is not
  // interrupted.
  if (before.value !== kid.props.value && document.activeElement !== node) node.value = kid.props.value ?? "";
  if (node.described && before.flash !== kid.props.flash) light(node);
  node.described = kid;
}

function set(node, name, value) {
  if (name === "key" || name === "flash" || name === "ref") return;
  if (name.startsWith("on") || name === "checked" || name === "indeterminate") node[name] = value ?? null;
  else if (value === undefined || value === null || (value === false && !name.startsWith("aria-"))) {
    node.removeAttribute(name);
  } else node.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : value);
}

function children(parent, kids, svg) {
  const keys = new Set(kids.map((kid) => kid.props?.key).filter((key) => key !== undefined));
  const known = new Map();
  for (const node of [...parent.childNodes]) {
    const key = node.described?.props.key;
    if (key === undefined) continue;
    if (keys.has(key)) known.set(key, node);
    else node.remove();
  }
  let at = parent.firstChild;
  for (const kid of kids) {
    const found = known.get(kid.props?.key) ?? at;
    const stays = found && same(found, kid);
    if (stays) update(found, kid, svg);
    const node = stays ? found : make(kid, svg);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function same(node, kid) {
  if (typeof kid !== "object") return node.nodeType === Node.TEXT_NODE;
  return node.localName === kid.tag && node.described?.props.key === kid.props.key;
}

function light(node) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const colour = getComputedStyle(node).getPropertyValue("--flash");
  node.animate([{ backgroundColor: colour }, { backgroundColor: "transparent" }], 600);
}
