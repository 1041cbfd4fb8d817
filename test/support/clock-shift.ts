/**
 * Loaded before a process of a test (`NODE_OPTIONS=--import`): its clock is wrong by DARDA_TEST_CLOCK_MS milliseconds. What measures how long
 * something takes (`performance.now`, timers) is right, as on a real machine.
 */
const shift = Number(process.env["DARDA_TEST_CLOCK_MS"] ?? 0)
const RightDate = Date

class WrongDate extends RightDate {
  constructor(...given: ReadonlyArray<never>) {
    if (given.length === 0) super(RightDate.now() + shift)
    else super(...(given as unknown as [number]))
  }
  static override now(): number {
    return RightDate.now() + shift
  }
}

globalThis.Date = WrongDate as DateConstructor
