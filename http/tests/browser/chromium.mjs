// Debian's Chromium with an empty profile that is thrown away, driven by playwright-core. Nothing is downloaded.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required',
];

/** Opens a browser page, hands it to `work`, and cleans up whatever happens. */
export async function withPage({ executable = process.env.CHROMIUM || '/usr/bin/chromium', ...options }, work) {
  const profile = await mkdtemp(join(tmpdir(), 'tierline-chromium-'));
  let context;
  try {
    context = await chromium.launchPersistentContext(profile, {
      executablePath: executable, headless: true, args: FLAGS, timezoneId: 'UTC', locale: 'en-GB', ...options,
    });
    return await work(context.pages()[0] ?? await context.newPage());
  } finally {
    await context?.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
