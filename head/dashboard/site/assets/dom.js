// Describes what a page shows as plain objects, and changes only what differs in the document. Pages can then be written
// as "what it looks like now", without keeping track of elements. Text goes in as text nodes, never as markup.

/**
 * What an element is to look like.
 * @typedef {object} VNode
 * @property {string} tag
 * @property {Attributes} attributes
 * @property {Map<string, VNode | string>} children  by key, in order
 * @property {string | number | undefined} key
 */

/**
 * Something that manages its own element, such as a chart.
 * @template T
 * @typedef {object} Widget
 * @property {(element: HTMLElement, data: T) => { update(data: T): void, destroy(): void }} create
 */

/** @typedef {Record<string, any>} Attributes */
/** @typedef {VNode | string | number | null | undefined | false} Child */
/** @typedef {Child | Children[]} Children */

/**
 * What is in the document for a VNode.
 * @typedef {object} Mounted
 * @property {VNode | string} node
 * @property {Element | Text} element
 * @property {Map<string, Mounted>} children  by key, in order
 * @property {{ update(data: any): void, destroy(): void }} [widget]
 */

const SVG = "http://www.w3.org/2000/svg";
/** Set as properties, because people change them after the attribute was read. */
const PROPERTIES = new Set(["value", "checked", "selected", "open"]);

/** @type {WeakMap<Element, Map<string, Mounted>>} */
const roots = new WeakMap();

/**
 * An element. `on…` attributes take functions, `style` an object, `key` tells siblings apart, and `widget` with `data`
 * hands the inside of the element to a Widget.
 * @param {string} tag
 * @param {Attributes | null} [attributes]
 * @param {...Children} children
 * @returns {VNode}
 */
export function h(tag, attributes, ...children) {
  const { key, ...rest } = attributes ?? {};
  return { tag, attributes: rest, key, children: keyed(children) };
}

/**
 * Children by their own key or else by their place, in which what is not shown and each inner list count as one: so those
 * behind them keep their keys, and with them their elements.
 * @param {Children[]} children
 * @param {string} [prefix]
 * @param {Map<string, VNode | string>} [found]
 */
function keyed(children, prefix = "", found = new Map()) {
  children.forEach((child, index) => {
    if (child === null || child === undefined || child === false) return;
    if (Array.isArray(child)) keyed(child, `${prefix}${index}.`, found);
    else if (typeof child === "object")
      found.set(`${prefix}${child.key === undefined ? index : `=${child.key}`}`, child);
    else found.set(`${prefix}${index}`, String(child));
  });
  return found;
}

/**
 * Makes the children of `parent` what `children` say.
 * @param {Element} parent
 * @param {Children} children
 */
export function render(parent, children) {
  let mounted = roots.get(parent);
  if (!mounted) {
    parent.replaceChildren();
    roots.set(parent, (mounted = new Map()));
  }
  roots.set(parent, patchChildren(parent, mounted, keyed([children])));
}

/**
 * @param {Element} parent
 * @param {Map<string, Mounted>} old
 * @param {Map<string, VNode | string>} children
 */
function patchChildren(parent, old, children) {
  /** @type {Map<string, Mounted>} */
  const next = new Map();
  children.forEach((child, key) => {
    const before = old.get(key);
    const isSame = before && tagOf(before.node) === tagOf(child);
    next.set(key, isSame ? patch(before, child) : mount(child, parent.namespaceURI));
  });
  for (const [key, before] of old) {
    if (next.get(key)?.element !== before.element) unmount(before);
  }
  let at = parent.firstChild;
  for (const { element } of next.values()) {
    if (element === at) at = at.nextSibling;
    else parent.insertBefore(element, at);
  }
  return next;
}

/** @param {VNode | string} node */
function tagOf(node) {
  return typeof node === "string" ? "" : node.tag;
}

/**
 * @param {VNode | string} node
 * @param {string | null} namespace
 * @returns {Mounted}
 */
function mount(node, namespace) {
  if (typeof node === "string") {
    return { node, element: document.createTextNode(node), children: new Map() };
  }
  const isSvg = node.tag === "svg" || namespace === SVG;
  const element = isSvg ? document.createElementNS(SVG, node.tag) : document.createElement(node.tag);
  /** @type {Mounted} */
  const mounted = { node, element, children: new Map() };
  if (node.attributes.widget) {
    mounted.widget = node.attributes.widget.create(/** @type {HTMLElement} */ (element), node.attributes.data);
  } else {
    mounted.children = patchChildren(element, mounted.children, node.children);
  }
  setAttributes(element, {}, node.attributes);
  return mounted;
}

/**
 * @param {Mounted} mounted
 * @param {VNode | string} node
 */
function patch(mounted, node) {
  if (typeof node === "string") {
    if (mounted.node !== node) /** @type {Text} */ (mounted.element).data = node;
  } else {
    const element = /** @type {Element} */ (mounted.element);
    const before = /** @type {VNode} */ (mounted.node);
    if (mounted.widget) mounted.widget.update(node.attributes.data);
    else mounted.children = patchChildren(element, mounted.children, node.children);
    setAttributes(element, before.attributes, node.attributes);
  }
  mounted.node = node;
  return mounted;
}

/** @param {Mounted} mounted */
function unmount(mounted) {
  destroyWidgets(mounted);
  mounted.element.remove();
}

/** @param {Mounted} mounted */
function destroyWidgets(mounted) {
  mounted.widget?.destroy();
  for (const child of mounted.children.values()) destroyWidgets(child);
}

/**
 * @param {Element} element
 * @param {Attributes} old
 * @param {Attributes} next
 */
function setAttributes(element, old, next) {
  for (const name in old) {
    if (!(name in next)) setAttribute(element, name, old[name], undefined);
  }
  for (const name in next) setAttribute(element, name, old[name], next[name]);
}

/**
 * @param {any} element
 * @param {string} name
 * @param {any} old
 * @param {any} value
 */
function setAttribute(element, name, old, value) {
  if (name === "widget" || name === "data") return;
  if (name.startsWith("on")) element[name] = value ?? null;
  else if (name === "style") setStyle(element, old ?? {}, value ?? {});
  else if (PROPERTIES.has(name)) {
    // An `open` that people changed stays as they left it until the page itself changes its mind.
    if (name === "open" ? old !== value : element[name] !== value) element[name] = value ?? "";
  } else if (old !== value) setPlainAttribute(element, name, value);
}

/**
 * @param {Element} element
 * @param {string} name
 * @param {any} value
 */
function setPlainAttribute(element, name, value) {
  if (value === null || value === undefined || (value === false && !name.startsWith("aria-"))) {
    element.removeAttribute(name);
  } else {
    element.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : String(value));
  }
}

/**
 * Through the object model, which a strict content security policy allows, unlike a `style` attribute.
 * @param {HTMLElement} element
 * @param {Record<string, string>} old
 * @param {Record<string, string>} next
 */
function setStyle(element, old, next) {
  for (const name in old) if (!(name in next)) element.style.removeProperty(name);
  for (const name in next) if (old[name] !== next[name]) element.style.setProperty(name, next[name]);
}
