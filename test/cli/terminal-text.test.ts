import { expect, test } from "vitest";
import { cut, harmless, oneLine, widthOf } from "../../src/cli/terminal-text.ts";

test("text from outside cannot drive the terminal", () => {
  expect(harmless("a\u001b[2J\u001b]0;title\u0007b\r\u0008c\td\n")).toBe("abc\td\n");
  expect(oneLine(" two\n\n lines\u001b[31m ")).toBe("two lines");
});

test("width counts columns, not characters", () => {
  expect(widthOf("tea")).toBe(3);
  expect(widthOf("お茶")).toBe(4);
  expect(widthOf("👩‍🍳")).toBe(2);
  expect(widthOf("é")).toBe(1);
  expect(widthOf("\u001b[32mtea\u001b[39m")).toBe(3);
});

test("cutting shows that it did, and never exceeds the columns", () => {
  expect(cut("history", 7)).toBe("history");
  expect(cut("history", 6)).toBe("histo…");
  expect(cut("お茶の歴史", 6)).toBe("お茶…");
  expect(cut("", 5)).toBe("");
});
