/**
 * What to tell when a process could not start because a port of its is taken; null when that was not the reason.
 * @param variables the ports it was told to use, by the variable that tells
 */
export function describeTakenPort(error: unknown, variables: Readonly<Record<string, number>>): string | null {
  const { code, port } = error as { code?: unknown; port?: unknown };
  if (code !== 'EADDRINUSE') return null;
  const variable = Object.keys(variables).find((name) => variables[name] === port) ?? 'the variable for it';
  return `port ${String(port)} is taken: stop what listens there or set ${variable} to another one`;
}
