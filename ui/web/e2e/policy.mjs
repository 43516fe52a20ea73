// Opens the page on traffic with policies (ui/page_test.go), follows a denial from the map to its flows, and prints what it
// shows as JSON.
//   node e2e/policy.mjs URL [SCREENSHOT-PREFIX]
import { chromium } from "playwright-core";

const [url, shots] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const facts = { errors: [] };
const DENIED = "shop/recommend>data/postgres";
const AUDITED = "shop/checkout>data/redis";
const text = (l) => l.innerText().then((t) => t.replace(/\s+/g, " ").trim());
try {
  for (const theme of shots ? ["light", "dark"] : ["dark"]) {
    const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, colorScheme: theme, reducedMotion: "reduce" });
    page.setDefaultTimeout(60_000);
    page.on("pageerror", (e) => facts.errors.push(String(e)));
    page.on("dialog", (d) => facts.errors.push("dialog: " + d.message()));
    page.on("console", (m) => m.type() === "error" && facts.errors.push(m.text()));
    const shot = (name) => shots && page.screenshot({ path: `${shots}${name}-${theme}.png` });

    // The map names who denies.
    await page.goto(url);
    const edge = (id) => page.locator(`.edges .edge[data-id="${id}"]`);
    await page.locator(".labels .label.drop text", { hasText: "postgres" }).first().waitFor();
    facts.label = await page.locator(".labels .label.drop text", { hasText: "postgres" }).first().textContent();
    facts.tooltip = await edge(DENIED).locator("title").textContent();
    facts.auditTooltip = await edge(AUDITED).locator("title").textContent();
    facts.auditEdgeClass = await edge(AUDITED).getAttribute("class");
    await shot("map");

    // The drawer says why, and each name is reached by the keyboard.
    await page.goto(`${url}/?sel=${encodeURIComponent("edge:" + DENIED)}`);
    const card = page.locator(".policy-card.drop").first();
    await card.waitFor();
    facts.card = await text(card);
    await shot("edge");
    const name = card.getByRole("button", { name: "NetworkPolicy data/postgres-from-checkout" });
    await name.focus();
    facts.keyboard = await name.evaluate((e) => e === document.activeElement);
    await page.keyboard.press("Enter");

    // The flows behind it.
    await page.waitForURL(/page=flows/);
    const rows = page.locator(".flows-body [role=row]");
    await rows.filter({ hasText: "policy denied" }).first().waitFor();
    facts.chips = (await page.locator(".chip").allInnerTexts()).map((t) => t.replace(/\s+/g, " ").trim()).join(" | ");
    facts.behind = (await rows.allInnerTexts()).map((t) => t.replace(/\s+/g, " ").trim());
    await rows.filter({ hasText: "policy denied" }).first().click();
    await page.locator(".drawer .policy-card").waitFor();
    facts.flow = await text(page.locator(".drawer .policy-card"));
    await shot("flows");

    // What is only audited, the map as a table, and a policy's name in the query bar.
    await page.goto(`${url}/?view=table&sel=${encodeURIComponent("edge:" + AUDITED)}`);
    await page.locator(".map-table").waitFor();
    facts.table = await text(page.locator(".map-table tr").filter({ hasText: DENIED.replace(">", " → ") }));
    await page.locator(".policy-card.audit").waitFor();
    facts.auditCard = await text(page.locator(".policy-card.audit"));
    const search = page.getByRole("combobox", { name: "Filter" });
    await search.fill("policy:postgres");
    facts.suggestion = await page.locator("#query-suggestions [role=option]").first().innerText();
    await search.press("Escape");
    await page.locator(".map-table tr").last().scrollIntoViewIfNeeded();
    await shot("table");

    await page.goto(`${url}/?page=drops`);
    const policies = page.locator(".summary section", { has: page.getByRole("heading", { name: "Policies" }) });
    await policies.waitFor();
    facts.policies = await policies.locator("tbody tr td:first-child").allInnerTexts();
    await shot("drops");
    await page.goto(`${url}/?page=flows`);
    await rows.filter({ hasText: "policy allowed" }).first().waitFor();
    await shot("all");
    await page.close();
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(facts));
