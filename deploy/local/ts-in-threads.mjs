/**
 * Preloaded beside tsx, which loads TypeScript in the main thread only: threads that the sources start load it as well.
 */
import { isMainThread } from 'node:worker_threads';

if (!isMainThread) (await import('tsx/esm/api')).register();
