import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";
import { mockApi } from "./dev/mock.ts";

const dist = join(import.meta.dirname, "dist");

/** Empties dist but for .keep, which lets `go build` embed the folder before the page was ever built. */
const cleanDist: Plugin = {
  name: "clean-dist",
  apply: "build",
  buildStart() {
    for (const name of readdirSync(dist)) if (name !== ".keep") rmSync(join(dist, name), { recursive: true });
  },
};

/** A running Parallax to work against; PARALLAX_UI names another one. */
const proxy = { "/api": { target: process.env["PARALLAX_UI"] ?? "http://127.0.0.1:12000", ws: true } };

export default defineConfig(({ mode }) => ({
  plugins: mode === "mock" ? [mockApi()] : [cleanDist],
  build: { outDir: dist, emptyOutDir: false, target: "es2022", cssTarget: ["chrome123", "firefox120", "safari17.5"], modulePreload: { polyfill: false }, assetsInlineLimit: 0 },
  server: { host: "127.0.0.1", port: 12080, ...(mode === "mock" ? {} : { proxy }) },
  preview: { host: "127.0.0.1", port: 12081, ...(mode === "mock" ? {} : { proxy }) },
}));
