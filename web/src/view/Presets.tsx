// Settings under a name: taken, kept, dropped.

import { useState } from "preact/hooks";
import { dropPreset, keepPreset, presets, takePreset } from "../presets";

const LONGEST = 60;

export function Presets() {
  const [chosen, choose] = useState("");
  const [name, write] = useState("");
  const known = presets.value.find((one) => one.name === chosen);
  const keep = () => {
    const wanted = name.trim();
    if (!wanted) return;
    write("");
    void keepPreset(wanted).then(() => choose(wanted));
  };
  return (
    <div class="wide presets">
      <label>Preset
        <select value={known ? chosen : ""} onChange={({ currentTarget: { value } }) => {
          choose(value);
          const preset = presets.value.find((one) => one.name === value);
          if (preset) void takePreset(preset);
        }}>
          <option value="">{presets.value.length ? "None" : "None kept yet"}</option>
          {presets.value.map((one) => <option key={one.name} value={one.name}>{one.name}</option>)}
        </select>
      </label>
      {known && <button type="button" onClick={() => { choose(""); void dropPreset(known.name); }}>Delete preset</button>}
      <label>Keep these settings as
        <input value={name} maxLength={LONGEST} placeholder="a name" onInput={(event) => write(event.currentTarget.value)}
          onKeyDown={(event) => { if (event.key === "Enter") keep(); }} />
      </label>
      <button type="button" disabled={!name.trim()} onClick={keep}>Keep</button>
    </div>
  );
}
