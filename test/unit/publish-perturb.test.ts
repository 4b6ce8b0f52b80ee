import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { perturb, type PerturbOptions, seededRandom } from '../../src/publishing/perturb.ts';

const calm: PerturbOptions = { window: 0, duplicate: 0, drop: 0, seed: 1 };

async function* numbers(count: number): AsyncGenerator<number> {
  for (let i = 0; i < count; i++) yield i;
}

async function arrivals(count: number, options: Partial<PerturbOptions>): Promise<number[]> {
  const result: number[] = [];
  for await (const element of perturb(numbers(count), { ...calm, ...options })) result.push(element);
  return result;
}

const anyOptions = fc.record({
  window: fc.integer({ min: 0, max: 40 }),
  duplicate: fc.constantFrom(0, 0.1, 0.5, 1),
  drop: fc.constantFrom(0, 0.1, 0.5, 1),
  seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
});
const anyCount = fc.integer({ min: 0, max: 300 });

test('without a window, repetitions or losses a stream stays as it is', async () => {
  assert.deepEqual(await arrivals(100, {}), [...Array(100).keys()]);
});

test('shuffling alone brings every element once, each at most a window from where it stood', async () => {
  await fc.assert(
    fc.asyncProperty(anyCount, anyOptions, async (count, { window, seed }) => {
      const result = await arrivals(count, { window, seed });
      assert.deepEqual(
        [...result].sort((a, b) => a - b),
        [...Array(count).keys()],
      );
      for (const [place, element] of result.entries()) assert.ok(Math.abs(place - element) <= window, `${element} at ${place}`);
    }),
  );
});

test('no arrival, first or again, is further than a window from its place among first arrivals', async () => {
  await fc.assert(
    fc.asyncProperty(anyCount, anyOptions, async (count, options) => {
      const result = await arrivals(count, options);
      const firsts = [...new Set(result)];
      const survivors = [...firsts].sort((a, b) => a - b);
      const home = new Map(survivors.map((element, place) => [element, place]));
      const seen = new Set<number>();
      for (const element of result) {
        // A repetition stands behind as many first arrivals as have been seen, its own among them.
        const place = seen.has(element) ? seen.size - 1 : seen.size;
        seen.add(element);
        assert.ok(Math.abs(place - home.get(element)!) <= options.window, `${element} at ${place}: ${result}`);
      }
    }),
  );
});

test('an element that is lost never arrives, and one that is not arrives once or twice', async () => {
  await fc.assert(
    fc.asyncProperty(anyCount, anyOptions, async (count, options) => {
      const times = new Map<number, number>();
      for (const element of await arrivals(count, options)) times.set(element, (times.get(element) ?? 0) + 1);
      if (options.drop === 0) assert.equal(times.size, count);
      if (options.drop === 1) assert.equal(times.size, 0);
      for (const often of times.values()) {
        assert.ok(often === 1 || often === 2);
        if (options.duplicate === 0) assert.equal(often, 1);
        if (options.duplicate === 1) assert.equal(often, 2);
      }
    }),
  );
});

test('the same seed gives the same arrivals and another seed gives others', async () => {
  const options = { window: 50, duplicate: 0.2, drop: 0.1 };
  const once = await arrivals(1_000, { ...options, seed: 7 });
  assert.deepEqual(await arrivals(1_000, { ...options, seed: 7 }), once);
  assert.notDeepEqual(await arrivals(1_000, { ...options, seed: 8 }), once);
});

test('repetitions and losses leave the shuffle of the others as it was', async () => {
  const shuffled = await arrivals(1_000, { window: 50 });
  const lossy = await arrivals(1_000, { window: 50, drop: 0.3, duplicate: 0.3 });
  const survivors = new Set(lossy);
  assert.deepEqual(
    [...survivors],
    shuffled.filter((element) => survivors.has(element)),
  );
});

test('about as many are lost and repeated as was asked for, and elements use the whole window', async () => {
  const lost = 20_000 - (await arrivals(20_000, { drop: 0.25 })).length;
  assert.ok(Math.abs(lost - 5_000) < 300, `${lost} lost`);
  const repeated = (await arrivals(20_000, { duplicate: 0.1, window: 100 })).length - 20_000;
  assert.ok(Math.abs(repeated - 2_000) < 200, `${repeated} repeated`);
  const moves = (await arrivals(20_000, { window: 100 })).map((element, place) => place - element);
  assert.ok(Math.max(...moves) > 60 && Math.min(...moves) < -60, `${Math.min(...moves)} to ${Math.max(...moves)}`);
});

test('a repetition without a window comes directly behind the first arrival', async () => {
  assert.deepEqual(await arrivals(3, { duplicate: 1 }), [0, 0, 1, 1, 2, 2]);
});

test('elements leave as soon as nothing can overtake them, so that memory is a window and not the stream', async () => {
  let read = 0;
  async function* endless(): AsyncGenerator<number> {
    for (;;) yield read++;
  }
  let taken = 0;
  for await (const _ of perturb(endless(), { ...calm, window: 100, duplicate: 0.5 })) {
    taken++;
    assert.ok(read - taken <= 101, `${read} read for ${taken}`);
    if (taken === 5_000) break;
  }
});

test('numbers of one seed are spread evenly and are those they have always been', () => {
  const random = seededRandom(42);
  const counts = Array<number>(10).fill(0);
  for (let i = 0; i < 100_000; i++) counts[Math.floor(random() * 10)]!++;
  for (const count of counts) assert.ok(Math.abs(count - 10_000) < 500, `${counts}`);
  const again = seededRandom(42);
  assert.deepEqual(
    [again(), again(), again()].map((number) => Math.floor(number * 1_000)),
    [294, 453, 912],
  );
  assert.notEqual(seededRandom(1)(), seededRandom(2)());
});
