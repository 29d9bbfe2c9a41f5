/**
 * Keeps secrets out of files that are committed: values of variables whose name says so, values that are given, and what has
 * the shape of a key. A placeholder with the name stands for a value, so that another machine, with another value, comes to
 * the same text.
 */

/** Secrets by a name of their own, beside those of the environment. */
export type Secrets = { readonly [name: string]: string };

/** Replaces secrets in every text of a JSON value. */
export type HideSecrets = <T>(value: T) => T;

const SECRET_NAME = /(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$/i;
/** A shorter value is a word that may stand anywhere. */
const LEAST_LENGTH = 8;

/** What providers' keys look like, and tokens that anybody could use. */
const SHAPES: readonly RegExp[] = [
  /\bsk-[A-Za-z0-9_-]{16,}/g,
  /\bgh[pousr]_[A-Za-z0-9]{20,}/g,
  /\bgithub_pat_[A-Za-z0-9_]{20,}/g,
  /\bxox[abeprs]-[A-Za-z0-9-]{10,}/g,
  /\bAKIA[0-9A-Z]{16}\b/g,
  /\bAIza[0-9A-Za-z_-]{35}/g,
  /\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+/g,
  /(?<=\bBearer\s)[A-Za-z0-9._~+/-]{16,}=*/g,
  /(?<=:\/\/[^\s/:@]+:)[^\s/@]+(?=@)/g,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----/g,
];

/** Makes the function that hides them; the environment is read now. */
export function hideSecrets(
  given: Secrets = {},
  env: { readonly [name: string]: string | undefined } = process.env,
): HideSecrets {
  const named = [...Object.entries(env).filter(([name]) => SECRET_NAME.test(name)), ...Object.entries(given)]
    .flatMap(([name, value]) => (value === undefined || value.length < LEAST_LENGTH ? [] : [{ name, value }]))
    // One that holds another goes first.
    .sort((a, b) => b.value.length - a.value.length);
  return hide;

  function hide<T>(value: T): T {
    if (typeof value === "string") return hideIn(value) as T;
    if (Array.isArray(value)) return value.map(hide) as T;
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [hideIn(key), hide(inner)])) as T;
  }

  function hideIn(text: string): string {
    let hidden = text;
    for (const { name, value } of named) hidden = hidden.replaceAll(value, `<secret: ${name}>`);
    for (const shape of SHAPES) hidden = hidden.replaceAll(shape, "<secret>");
    return hidden;
  }
}
