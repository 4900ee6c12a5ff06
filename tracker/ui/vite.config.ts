import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const BUILT = "../stepwell_tracker/static";
const SMALL_BYTES = 4096; // a block of the disk: less is not worth compressing

/** Large files are kept compressed only; the server unpacks them for who does not take that. */
function packed(): Plugin {
  return {
    name: "packed",
    closeBundle() {
      const assets = join(import.meta.dirname, BUILT, "assets");
      for (const name of readdirSync(assets)) {
        const file = join(assets, name);
        if (statSync(file).size > SMALL_BYTES) {
          writeFileSync(`${file}.gz`, gzipSync(readFileSync(file), { level: 9 }));
          rmSync(file);
        }
      }
    },
  };
}

export default defineConfig({
  base: "/static/",
  plugins: [packed()],
  build: {
    outDir: BUILT,
    emptyOutDir: true,
    sourcemap: false,
    cssCodeSplit: false, // one style sheet: no lazy part ever loads a second one
    modulePreload: false, // its addresses would not know a proxy's prefix
    target: "es2022",
    assetsInlineLimit: 0,
  },
});
