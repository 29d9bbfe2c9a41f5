export function missingDaemonFlags(): string[];
export function daemonFlagsOf(node: string): string[];
