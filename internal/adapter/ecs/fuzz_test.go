package ecs

import (
	"os"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
)

func seed(f *testing.F, files ...string) {
	f.Helper()
	for _, file := range files {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("null"))
}

// checkNames fails for a part that could not be a name: parts end up in groups
// and on terminals.
func checkNames(t *testing.T, e asset.ECS) {
	t.Helper()
	for _, part := range []string{e.Account, e.Region, e.Cluster, e.Service, e.Family, e.Revision, e.TaskID, e.Container} {
		if part != "" && !asset.WellNamed(part) {
			t.Fatalf("%q is not a name", part)
		}
	}
}

func FuzzParseInstance(f *testing.F) {
	seed(f, "metadata.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		at, err := parseInstance(b)
		if err == nil && at == (instance{}) {
			t.Fatal("nothing in it, and no error")
		}
		checkNames(t, asset.ECS{Cluster: at.cluster})
	})
}

func FuzzParseTasks(f *testing.F) {
	seed(f, "tasks.json", "tasks-old.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		all, _ := parseTasks(b)
		for _, some := range []map[string]asset.ECS{all.byID, all.byName} {
			for id, e := range some {
				if id == "" || e.TaskARN == "" {
					t.Fatalf("container %q of task %q", id, e.TaskARN)
				}
				checkNames(t, e)
			}
		}
	})
}

func FuzzParseOwnTask(f *testing.F) {
	seed(f, "task-v4.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		own, err := parseOwnTask(b)
		if err == nil && own.task.TaskARN == "" {
			t.Fatal("no task in it, and no error")
		}
		for _, e := range own.byID {
			checkNames(t, e)
		}
	})
}
