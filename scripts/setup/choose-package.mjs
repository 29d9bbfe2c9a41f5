import { isAtLeast } from "../../bin/fitting-node.mjs";

/** From what `apt-cache madison` prints, the package version with the newest program that fits; undefined without one. */
export function choosePackage(madison, fits) {
  const packages = madison.split("\n").flatMap((line) => {
    const packaged = line.split("|")[1]?.trim();
    const version = packaged && /^(?:\d+:)?(\d+\.\d+\.\d+)/.exec(packaged)?.[1];
    return version && fits(version) ? [{ packaged, version }] : [];
  });
  packages.sort((a, b) => (isAtLeast(a.version, b.version) ? -1 : 1));
  return packages[0]?.packaged;
}
