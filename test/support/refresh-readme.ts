/**
 * Writes the README's generated blocks anew: node --import tsx test/support/refresh-readme.ts
 */
import { writeFileSync } from 'node:fs';
import { readmePath, readReadme, withGeneratedBlocks } from './readme.ts';

writeFileSync(readmePath, withGeneratedBlocks(readReadme()));
