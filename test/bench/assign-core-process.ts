/**
 * Measures the core in a process whose young generation takes all the answers of a large house in one call. By Node's default it takes
 * 16 MiB of them, and most of the cost of a decision would be to copy the answers before it: the store never asks for so many.
 */
import { measureCore } from './assign-core.ts';

process.send!(measureCore(JSON.parse(process.argv[2]!) as Parameters<typeof measureCore>[0]));
