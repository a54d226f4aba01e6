package lock

import (
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// takeSwift reads a Package.resolved: in version 1 pins below object, with their
// address as repositoryURL, later as location. Packages are known by address.
func takeSwift(r io.Reader, size int64, shown *analyse.Shown) error {
	j := pull.NewJSON(r, size, maxFile)
	pin := func(int) error {
		var address, version string
		err := j.Object(func(key []byte) (err error) {
			switch string(key) {
			case "repositoryURL", "location":
				address, err = j.Text()
			case "state":
				err = j.Object(func(key []byte) (err error) {
					if string(key) == "version" {
						version, err = j.Text()
					}
					return err
				})
			}
			return err
		})
		if err != nil {
			return err
		}
		return shown.Add(declared("swift", swiftName(address), version, "SwiftURL"))
	}
	return j.Object(func(key []byte) error {
		switch string(key) {
		case "pins":
			return j.Array(pin)
		case "object":
			return j.Object(func(key []byte) error {
				if string(key) != "pins" {
					return nil
				}
				return j.Array(pin)
			})
		}
		return nil
	})
}

// swiftName is an address without how it is reached: github.com/apple/swift-nio.
// It is empty for a folder.
func swiftName(address string) string {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		address = rest
	} else if user, rest, ok := strings.Cut(address, ":"); ok && strings.Contains(user, "@") {
		address = user + "/" + rest // git@host:path
	}
	if strings.HasPrefix(address, "/") || strings.HasPrefix(address, ".") {
		return ""
	}
	host, rest, _ := strings.Cut(address, "/")
	if rest == "" {
		return ""
	}
	return strings.ToLower(host[strings.LastIndexByte(host, '@')+1:]) + "/" + strings.TrimSuffix(rest, ".git")
}

// takePods reads a Podfile.lock. A part of a pod is the pod. What is below
// DEPENDENCIES the project asks for itself.
func takePods(r io.Reader, size int64, shown *analyse.Shown) error {
	section := ""
	at := map[string]bool{}
	direct := map[string]bool{}
	err := pull.NewYAML(r, size, maxFile).Each(func(line pull.YAMLLine) error {
		if line.Indent == 0 && !line.Item {
			section = line.Key
			return nil
		}
		if line.Indent != 2 || !line.Item {
			return nil
		}
		text := line.Value
		if line.Key != "" {
			text = line.Key
		}
		name, rest, _ := strings.Cut(text, " ")
		name, _, _ = strings.Cut(name, "/")
		switch {
		case section == "DEPENDENCIES" && len(direct) < analyse.MaxPackages:
			direct[name] = true
		case section == "PODS" && !at[name]:
			at[name] = true
			return shown.Add(declared("cocoapods", name, strings.Trim(rest, "()"), ""))
		}
		return nil
	})
	for i := range shown.Packages {
		p := &shown.Packages[i]
		p.Indirect = len(direct) > 0 && !direct[p.Name]
	}
	return err
}
