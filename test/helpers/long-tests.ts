/** Whether waits are as long as the promises that tests check say, instead of as short as shows the same (TROUPE_TEST_LONG=1). */
export const LONG = process.env.TROUPE_TEST_LONG === "1";
