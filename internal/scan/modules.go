package scan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/iac/field"
	"github.com/castellan-security/castellan/internal/scan/secret"
)

// Limits on modules of Terraform in one folder of source code.
const (
	// maxModuleFiles bounds their files: the largest repositories have some thousands.
	maxModuleFiles = 20_000
	// maxModuleFile bounds one file, as its reader does.
	maxModuleFile = 1 << 20
)

// inModules are the secrets that no file of a module of Terraform tells alone: a value
// stands in one, and another says what it is.
func (s *Scanner) inModules(ctx context.Context, files fs.FS, skip func(string) bool, inv *inventory.Inventory) error {
	names, err := moduleFiles(ctx, files, skip)
	if err != nil || len(names) < 2 {
		return err
	}
	if len(names) > maxModuleFiles {
		inv.Problems = append(inv.Problems, inventory.Problem{What: fmt.Sprintf("of %d files of Terraform the first %d were read as modules", len(names), maxModuleFiles)})
		names = names[:maxModuleFiles]
	}
	fields, err := field.Modules(files, names)
	if err != nil {
		inv.Problems = append(inv.Problems, inventory.Problem{What: "modules of Terraform: " + err.Error()})
	}
	type standing struct{ folder, same string }
	known := map[standing]bool{}
	for i := range inv.Secrets {
		known[standing{path.Dir(inv.Secrets[i].Path), inv.Secrets[i].Same}] = true
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil || len(text) > maxModuleFile {
			continue // the reader of all files has told it
		}
		found, err := s.o.Secrets.FindInModule(secret.File{Path: name}, text, *fields[name])
		if err != nil && !errors.Is(err, secret.ErrMany) {
			return err
		}
		for _, f := range found {
			if at := (standing{path.Dir(f.Path), f.Same}); !known[at] {
				known[at] = true
				inv.Secrets = append(inv.Secrets, f)
			}
		}
	}
	slices.SortFunc(inv.Secrets, inventory.CompareSecrets)
	return nil
}

// moduleFiles are the files of Terraform, those with values of variables last.
func moduleFiles(ctx context.Context, files fs.FS, skip func(string) bool) ([]string, error) {
	var names, values []string
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return nil // told when the files were read
		case d.IsDir() && (skip(name) || d.Name() == ".git" || d.Name() == "node_modules"):
			return fs.SkipDir
		case !d.Type().IsRegular() || len(names)+len(values) > maxModuleFiles:
		case strings.HasSuffix(name, ".tfvars"):
			values = append(values, name)
		case strings.HasSuffix(name, ".tf"), strings.HasSuffix(name, ".tofu"), strings.HasSuffix(name, ".tf.json"):
			names = append(names, name)
		}
		return nil
	})
	return append(names, values...), err
}
