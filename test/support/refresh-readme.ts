/**
 * Writes the README's generated blocks and .env.example anew: node --import tsx test/support/refresh-readme.ts
 */
import { writeFileSync } from 'node:fs';
import { renderEnvExample } from '../../src/config/render.ts';
import { checkout } from './checkout.ts';
import { readmePath, readReadme, withGeneratedBlocks } from './readme.ts';

writeFileSync(readmePath, withGeneratedBlocks(readReadme()));
writeFileSync(`${checkout}.env.example`, renderEnvExample());
