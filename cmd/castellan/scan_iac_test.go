package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Links that lead out of the folder that is scanned are not followed, neither by
// a module nor by a file that a task names.
func TestScanStaysWithinItsFolder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"outside/main.tf":   "resource \"aws_ecs_task_definition\" \"outside\" {\n  pid_mode = \"host\"\n}\n",
		"outside/c.json":    `[{"name": "outside", "image": "a:1", "privileged": true, "environment": [{"name": "DB_PASSWORD", "value": "hunter2hunter2"}]}]`,
		"outside/task.json": `{"family": "outside", "containerDefinitions": [{"name": "a", "image": "a:1", "privileged": true}]}`,
		"root/main.tf": "module \"m\" {\n  source = \"./modules\"\n}\nresource \"aws_ecs_task_definition\" \"t\" {\n  ipc_mode = \"host\"\n  container_definitions = file(\"c.json\")\n}\n" +
			"resource \"aws_ecs_task_definition\" \"u\" {\n  container_definitions = file(\"../outside/c.json\")\n}\n",
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"modules": "../outside", "c.json": "../outside/c.json", "task.json": filepath.Join(dir, "outside", "task.json")} {
		if err := os.Symlink(to, filepath.Join(dir, "root", link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, what := range []string{".", "main.tf", "c.json", "task.json"} {
		code, out := shell(t, filepath.Join(dir, "root"), "castellan scan iac "+what+" --all -o json")
		if strings.Contains(out, "CAST-TASK-001") || strings.Contains(out, "CAST-TASK-003") || strings.Contains(out, "CAST-TASK-016") || strings.Contains(out, "hunter2") {
			t.Errorf("%s: what lies outside is read:\n%s", what, out)
		}
		tf := what == "." || what == "main.tf"
		if tf != (code == exitDone) || tf != strings.Contains(out, "CAST-TASK-004") {
			t.Errorf("%s: exit code %d\n%s", what, code, out)
		}
	}
}
