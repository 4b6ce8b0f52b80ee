/** `4, 6-9`: the sequences of letters that are in order, copies once. */
export function sequencesText(letters: readonly { readonly sequence: number | null }[]): string {
  const ranges: { first: number; last: number }[] = [];
  for (const { sequence } of letters) {
    const range = ranges.at(-1);
    if (sequence === null || sequence === range?.last) continue;
    if (range !== undefined && sequence === range.last + 1) range.last = sequence;
    else ranges.push({ first: sequence, last: sequence });
  }
  return ranges.map(({ first, last }) => (first === last ? String(first) : `${first}-${last}`)).join(', ');
}
