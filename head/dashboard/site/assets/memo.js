// Remembers the last answer of a function, so that what is drawn from unchanged data is the same object and need not be
// compared or drawn again.

/**
 * @template {unknown[]} A
 * @template R
 * @param {(...inputs: A) => R} compute
 * @returns {(...inputs: A) => R}
 */
export function memo(compute) {
  /** @type {{ inputs: A, result: R } | null} */
  let last = null;
  return (...inputs) => {
    const before = last;
    if (
      before &&
      inputs.length === before.inputs.length &&
      inputs.every((input, index) => Object.is(input, before.inputs[index]))
    ) {
      return before.result;
    }
    const result = compute(...inputs);
    last = { inputs, result };
    return result;
  };
}
