import { defineConfig } from "vite";

export default defineConfig({
  base: "/static/",
  build: {
    outDir: "../stepwell_tracker/static",
    emptyOutDir: true,
    sourcemap: false,
    cssCodeSplit: false, // one style sheet: no lazy part ever loads a second one
    modulePreload: false, // its addresses would not know a proxy's prefix
    target: "es2022",
    assetsInlineLimit: 0,
  },
});
