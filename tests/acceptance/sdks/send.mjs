// Sends a plan with Segment's Node library, as a user's program would.
//
//     node send.mjs HOST WRITE_KEY PLAN
import { readFileSync } from "node:fs";
import { Analytics } from "@segment/analytics-node";

const [host, writeKey, plan] = process.argv.slice(2);
const failures = [];
const analytics = new Analytics({ writeKey, host, flushAt: 100, flushInterval: 500 });
analytics.on("error", (error) => failures.push(error.code));

for (const line of readFileSync(plan, "utf8").trim().split("\n")) {
  const said = JSON.parse(line);
  const userId = said.user;
  const timestamp = new Date(said.at);
  const context = {
    personas: {
      computation_class: said.class,
      computation_key: said.key,
      computation_id: "aud_1",
      namespace: "spa_1",
      space_id: "spa_1",
    },
  };
  const value = { [said.key]: said.value };
  if (said.how === "identify") {
    analytics.identify({ userId, traits: value, context, timestamp });
  } else if (said.how === "track") {
    const properties = { audience_key: said.key, ...value };
    analytics.track({ userId, event: "Audience Entered", properties, context, timestamp });
  } else {
    analytics.track({ userId, event: "Something Else", properties: { a: 1 }, timestamp });
  }
}

await analytics.closeAndFlush();
console.log(JSON.stringify(failures));
process.exit(failures.length ? 1 : 0);
