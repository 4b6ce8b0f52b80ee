/** The examples of every README in their order, as somebody would type them who follows them, on a real broker and store. */
import { test } from 'node:test';
import { Reader, useReadersStream } from '../support/readme-reader.ts';
import { readReadmes } from '../support/readme.ts';
import { useLibraryFolder } from '../support/readme-snippets.ts';
import { waitFor } from '../support/services.ts';
import { fromCheckout } from '../support/worker-process.ts';

test('whoever follows the READMEs sees what they show', async (t) => {
  const { stream, variables } = await useReadersStream(t);
  const reader = new Reader(t, { launcher: { ...fromCheckout, folder: useLibraryFolder(t) }, stream, variables });
  await reader.follow(readReadmes());
  // One deposit came twice, and the tickets in disarray were all known.
  const duplicates = () => reader.worker.metric('inorder_events_total', { outcome: 'duplicate' });
  await waitFor(async () => (await duplicates()) === 5, { what: 'every duplicate noticed' });
  await reader.worker.kill();
});
