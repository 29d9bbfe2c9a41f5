/** What a check found wrong; caught by whoever runs checks, and told in the report. */
import { TroupeError } from "../../errors.ts";

export class CheckFailure extends TroupeError {
  constructor(message: string, code = "not_conforming") {
    super(code, message);
  }
}
