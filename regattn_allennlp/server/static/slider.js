// From one slider step to the next a value's distance from its lower bound grows by a 20th of a power of ten, and the
// trained value is in the middle: it can be a hundredth to a hundredfold of what was trained.
const STEPS_OF_TEN = 20;
export const STEPS = 2 * STEPS_OF_TEN;
// The distance in the middle where the trained value is the lower bound itself.
const DISTANCE_FROM_THE_BOUND = 0.1;

function middleDistance(parameter) {
  return parameter.trained - parameter.lower_bound || DISTANCE_FROM_THE_BOUND;
}

export function valueAt(parameter, position) {
  if (position === trainedPosition(parameter)) return parameter.trained;
  if (position < -STEPS) return parameter.lower_bound;
  const value = parameter.lower_bound + middleDistance(parameter) * 10 ** (position / STEPS_OF_TEN);
  return Math.min(rounded(value), parameter.upper_bound); // rounded, so that what is shown is what is used
}

export function positionOf(parameter, value) {
  const distance = value - parameter.lower_bound;
  if (distance <= 0) return lowestPosition(parameter);
  const position = Math.round(STEPS_OF_TEN * Math.log10(distance / middleDistance(parameter)));
  return Math.min(Math.max(position, -STEPS), STEPS);
}

export function trainedPosition(parameter) {
  return parameter.trained === parameter.lower_bound ? lowestPosition(parameter) : 0;
}

/** One step more for the lower bound itself, which the logarithm never reaches. */
export function lowestPosition(parameter) {
  return parameter.may_be_lower_bound ? -STEPS - 1 : -STEPS;
}

export function rounded(value) {
  return Number(value.toPrecision(3));
}
