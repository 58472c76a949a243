// How the model is to answer: kept with the conversation.

import { asked } from "../asked";
import { change, models, settings } from "../state";
import type { Effort, Settings } from "../types";
import { Presets } from "./Presets";

const EFFORTS: [Effort | "", string][] = [["", "As it likes"], ["none", "No thinking"], ["minimal", "Minimal"], ["low", "Low"],
  ["medium", "Medium"], ["high", "High"], ["max", "No bound"]];

function numberOr(text: string): number | null {
  const value = Number(text);
  return text.trim() === "" || !Number.isFinite(value) ? null : value;
}

export function Options() {
  const now = settings.value;
  const model = models.value.find((one) => one.id === now.model) ?? models.value[0];
  const thinks = models.value.some(({ id, capabilities }) => asked().includes(id) && capabilities.thinking.length > 0);
  return (
    <div class="options">
      {models.value.length > 1 && (
        <label>Model
          <select value={model?.id ?? ""} onChange={(event) => void change({ model: event.currentTarget.value })}>
            {models.value.map((one) => <option key={one.id} value={one.id}>{one.id}</option>)}
          </select>
        </label>
      )}
      {models.value.length > 1 && (
        <label>Beside it
          <select value={asked()[1] ?? ""} onChange={(event) => void change({ beside: event.currentTarget.value || null })}>
            <option value="">None</option>
            {models.value.filter((one) => one !== model).map((one) => <option key={one.id} value={one.id}>{one.id}</option>)}
          </select>
        </label>
      )}
      {thinks && (
        <label>Thinking
          <select value={now.effort ?? ""} onChange={(event) => void change({ effort: (event.currentTarget.value || null) as Effort | null })}>
            {EFFORTS.map(([value, words]) => <option key={value} value={value}>{words}</option>)}
          </select>
        </label>
      )}
      {thinks && <Figure name="budget" label="Thinking budget, tokens" placeholder="none" min={0} step={1} />}
      <Figure name="temperature" label="Temperature" placeholder={String(model?.defaults.temperature ?? 1)} min={0} max={2} step={0.1} />
      <Figure name="max_tokens" label="Longest reply, tokens" placeholder={model?.defaults.max_tokens?.toString() ?? "what fits"} min={1} step={1} />
      <label class="wide">System prompt
        <textarea rows={4} value={now.system} onChange={(event) => void change({ system: event.currentTarget.value })} />
      </label>
      <Presets />
    </div>
  );
}

interface FigureProps {
  name: "budget" | "temperature" | "max_tokens";
  label: string;
  placeholder: string;
  min: number;
  max?: number;
  step: number;
}

function Figure({ name, label, ...more }: FigureProps) {
  return (
    <label>{label}
      <input type="number" inputMode="decimal" value={settings.value[name] ?? ""} {...more}
        onChange={(event) => {
          if (event.currentTarget.reportValidity()) {
            void change({ [name]: numberOr(event.currentTarget.value) } as Partial<Settings>);
          }
        }} />
    </label>
  );
}
