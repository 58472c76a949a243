// Settings under a name: what can be done with them.

import { signal } from "@preact/signals";
import { api } from "./api";
import { attempt, change, models, NOTHING, settings } from "./state";
import type { Preset } from "./types";

export const presets = signal<Preset[]>([]);

export async function refreshPresets(): Promise<void> {
  presets.value = await api.presets();
}

/** Take the settings of a preset. A model that is not served any more is left out. */
export const takePreset = ({ settings: kept }: Preset): Promise<void> =>
  change({ ...NOTHING, ...kept, documents: settings.value.documents, model: served(kept.model), beside: served(kept.beside) });

function served(model: string | null): string | null {
  return models.value.some(({ id }) => id === model) ? model : null;
}

export const keepPreset = (name: string): Promise<void> => attempt(async () => {
  const { documents: _, ...kept } = settings.value;
  await api.keepPreset({ name, settings: kept });
  await refreshPresets();
});

export const dropPreset = (name: string): Promise<void> => attempt(async () => {
  await api.dropPreset(name);
  await refreshPresets();
});
