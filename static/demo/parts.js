/** Small parts of the demo that know nothing of it. */

/** Create an element. What comes from users is text, never markup. */
export function create(/** @type {string} */ tag, /** @type {string} */ name, text = "") {
  const element = document.createElement(tag)
  element.className = name
  element.textContent = text
  return element
}

export function amount(/** @type {number} */ count, /** @type {string} */ noun) {
  return count === 1 ? `1 ${noun}` : `${count} ${noun}s`
}

export function clock(/** @type {string | number} */ moment) {
  return new Date(moment).toLocaleTimeString("en-GB")
}

export function sleep(/** @type {number} */ seconds) {
  return new Promise((resolve) => setTimeout(resolve, 1000 * seconds))
}
