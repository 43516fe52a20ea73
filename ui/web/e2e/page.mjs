// Opens the page of a running Parallax in Chromium, asks it as a person would, and prints what it shows as JSON.
//   node e2e/page.mjs URL TOKEN [SCREENSHOT-PREFIX]
// TOKEN is text that one stored request carries. The end-to-end test (cmd/parallax) compares the facts.
import { chromium } from "playwright-core";

const [url, token, shots] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const facts = { errors: [] };
try {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, colorScheme: "dark", reducedMotion: "reduce" });
  page.on("pageerror", (e) => facts.errors.push(String(e)));
  page.on("console", (m) => m.type() === "error" && facts.errors.push(m.text()));

  // The first view: everything, live.
  await page.goto(url);
  const cards = page.locator(".graph button.card");
  await page.waitForFunction(() => document.querySelectorAll(".graph button.card").length > 10, null, { timeout: 30_000 });
  facts.cards = await cards.evaluateAll((all) => all.map((c) => c.getAttribute("aria-label")));
  facts.ledger = await page.getByText(/ledger/i).first().textContent();
  if (shots) await page.screenshot({ path: `${shots}dark.png` });

  // One request, found by its text, seen once.
  const rows = page.getByRole("table").getByRole("row");
  const search = page.getByRole("combobox").or(page.getByRole("searchbox")).first();
  await search.fill(token);
  await search.press("Enter");
  await page.waitForFunction(
    (t) => [...document.querySelectorAll("[role=row]")].some((r) => r.textContent.includes(t)), token, { timeout: 20_000 });
  const texts = await rows.evaluateAll((all) => all.map((r) => r.innerText.replace(/\s+/g, " ").trim()));
  facts.rows = texts.filter((t) => t.includes(token));

  // Its trace, if it has one: a click on another exchange of it opens that.
  await page.locator(".flows-body [role=row]").filter({ hasText: token }).first().click();
  const drawer = page.locator("aside.drawer");
  await drawer.waitFor();
  if (await drawer.getByRole("heading", { name: "Trace" }).count()) {
    const bars = drawer.locator(".waterfall button");
    await bars.first().or(drawer.getByRole("alert")).waitFor();
    facts.waterfall = await bars.allInnerTexts();
    const other = drawer.locator(".waterfall button:not([aria-current])").first();
    if (await other.count()) {
      const name = await other.getAttribute("title");
      await other.click();
      const opened = drawer.locator(".waterfall button[aria-current]");
      await page.waitForFunction((n) => document.querySelector(".waterfall button[aria-current]")?.getAttribute("title") === n, name);
      facts.opened = { exchange: await opened.getAttribute("title"), title: await drawer.locator("h2").innerText() };
    }
  }

  // Light theme, for the eye.
  if (shots) {
    const light = await browser.newPage({ viewport: { width: 1440, height: 900 }, colorScheme: "light" });
    await light.goto(url);
    await light.waitForFunction(() => document.querySelectorAll(".graph button.card").length > 10, null, { timeout: 30_000 });
    await light.waitForTimeout(3000); // figures of a few seconds make a better picture
    await light.screenshot({ path: `${shots}light.png` });
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(facts));
