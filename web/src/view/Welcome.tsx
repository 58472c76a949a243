// Before anything was said: who is here, and what it can be asked.

import { asked } from "../asked";
import { examples, models, say, settings } from "../state";
import { count } from "../text/words";

const SHOWN = 4;

export function Welcome() {
  const model = models.value.find((one) => one.id === settings.value.model) ?? models.value[0];
  if (!model) return <div class="welcome" />;
  const second = asked()[1];
  const { task, examples: listed } = examples.value;
  const size = model.parameters ? `${count(model.parameters)} parameters, ` : "";
  return (
    <div class="welcome">
      <h1>{model.id}{second && <span class="alone"> beside {second}</span>}</h1>
      <p class="about">{size}{model.max_model_len.toLocaleString("en")} tokens of context.</p>
      {task && (
        <>
          <p>This model knows one kind of problem, {task}, and nothing else. It answers each message on its own. Problems it
            has never seen:</p>
          <ul class="examples">
            {listed.slice(0, SHOWN).map((text) => (
              <li key={text}><button type="button" onClick={() => void say(text)}>{text}</button></li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}
