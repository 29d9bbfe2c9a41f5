/** Objects that refuse keys they do not know: a typing error in a definition must not pass as silence. */
import { z } from "zod";

/** Like `z.strictObject`, with an error that names the keys there are. */
export function strict<Shape extends z.core.$ZodShape>(shape: Shape) {
  const keys = Object.keys(shape).join(", ");
  return z.strictObject(shape, {
    error: (issue) => (issue.code === "unrecognized_keys" ? `expected one of the keys ${keys}` : undefined),
  });
}
