/** Sets this process's clock apart from the machine's, as whoever sets the machine's clock would for all of them. */
const RealDate = Date;

/** From now on `Date` is `ms` milliseconds away from the real time; `performance.now()` and timers go on as they were. */
export function shiftClock(ms: number): void {
  globalThis.Date = class extends RealDate {
    constructor(...given: [] | ConstructorParameters<DateConstructor>) {
      if (given.length === 0) super(RealDate.now() + ms);
      else super(...(given as ConstructorParameters<DateConstructor>));
    }

    static override now(): number {
      return RealDate.now() + ms;
    }
  } as DateConstructor;
}
