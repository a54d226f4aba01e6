package vm

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Modules returns the files of the named kernel modules below folder and of
// what they depend on, in the order in which they must be loaded. A module
// that is nowhere below folder is an error.
func Modules(folder string, names ...string) ([]string, error) {
	files, err := moduleFiles(folder)
	if err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	var order []string
	var add func(name string, above []string) error
	add = func(name string, above []string) error {
		name = moduleName(name)
		file, ok := files[name]
		switch {
		case !ok:
			return fmt.Errorf("kernel module %s is not below %s", name, folder)
		case slices.Contains(above, name):
			return fmt.Errorf("kernel module %s depends on itself", name)
		case slices.Contains(order, file):
			return nil
		}
		needs, err := dependencies(file)
		if err != nil {
			return fmt.Errorf("read kernel module %s: %w", name, err)
		}
		for _, n := range needs {
			if err := add(n, append(above, name)); err != nil {
				return err
			}
		}
		order = append(order, file)
		return nil
	}
	for _, name := range names {
		if err := add(name, nil); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleFiles maps the names of all modules below folder to their files.
func moduleFiles(folder string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			files[moduleName(name)] = path
		}
		return err
	})
	return files, err
}

// moduleName is how the kernel calls a module: its files may have dashes.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// dependencies reads "depends=" of a module's own description.
func dependencies(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		return nil, err
	}
	section := e.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no .modinfo in %s", file)
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
