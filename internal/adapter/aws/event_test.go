package aws

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/inventory"
)

// FuzzEvent wants of what is taken for a change that it can be one.
func FuzzEvent(f *testing.F) {
	const host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("%q, %v", files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add(`{"Type":"Notification","TopicArn":"arn:aws:sns:eu-west-1:123456789012:t","Message":"{}"}`)
	f.Fuzz(func(t *testing.T, body string) {
		change, ok, err := parseEvent(body, host)
		if err != nil || !ok {
			if (change != asset.RegistryChange{}) {
				t.Fatalf("%+v of nothing", change)
			}
			return
		}
		if _, known := parseHost(change.Host); !known || !asset.IsRepository(change.Repository) ||
			change.Tag != "" && !asset.IsTag(change.Tag) || change.Digest != "" && inventory.CheckDigest(change.Digest) != nil {
			t.Fatalf("change %+v", change)
		}
	})
}
