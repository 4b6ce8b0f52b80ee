/** How far a publication has come, on one line of a terminal. */
import type { PublishCounts } from './publish-stream.ts';

export interface Progress extends PublishCounts {
  /** Part of the input that has been read, 0 to 1; null when nobody knows how long it is. */
  readonly share: number | null;
  readonly elapsedMs: number;
}

const barWidth = 24;

/** Goes to the beginning of the terminal's line and clears it. */
export const clearLine = '\r\u001b[K';

/** `[######··················]  25 %  3,400 published, 3,380 confirmed, 12,100/s` */
export function progressLine({ share, published, confirmed, returned, failed, elapsedMs }: Progress): string {
  const rate = Math.round((confirmed * 1_000) / Math.max(elapsedMs, 1));
  const parts = [`${grouped(published)} published`, `${grouped(confirmed)} confirmed`];
  if (returned > 0) parts.push(`${grouped(returned)} returned`);
  if (failed > 0) parts.push(`${grouped(failed)} failed`);
  return `${share === null ? '' : `${bar(Math.min(share, 1))}  `}${parts.join(', ')}, ${grouped(rate)}/s`;
}

function bar(share: number): string {
  const filled = Math.floor(share * barWidth);
  return `[${'#'.repeat(filled)}${'·'.repeat(barWidth - filled)}] ${String(Math.floor(share * 100)).padStart(3)} %`;
}

/** `13710` → `13,710`, in whatever language the terminal is. */
export function grouped(value: number): string {
  return value.toLocaleString('en-US');
}
