// Package start has profiles to begin with, for well-known images: what their
// documentation and their entrypoints say that they do. What a group does besides is
// learned on top.
package start

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/document"
)

//go:embed *.yaml
var texts embed.FS

// known are the images that there are starting profiles for.
var known = []struct {
	file string
	// repositories end the image's name, after any registry and folders.
	repositories []string
	// programs are those that a container of it starts with, where the image's name
	// says nothing, such as an application built on it.
	programs []string
}{
	{"nginx", []string{"nginx"}, []string{"nginx"}},
	{"postgres", []string{"postgres"}, []string{"postgres"}},
	{"redis", []string{"redis"}, []string{"redis-server"}},
	{"node", []string{"node"}, []string{"node"}},
	{"python", []string{"python"}, []string{"python", "python3", "gunicorn", "uvicorn"}},
	{"java", []string{"openjdk", "eclipse-temurin", "amazoncorretto"}, []string{"java"}},
}

// Starting is a profile to begin with.
type Starting struct {
	Profile *profile.Profile // without a group; every entry's source is Initial
	Name    string           // what it is for: image and versions
}

// For returns the starting profile for an image, or for what starts in its
// containers; nil if there is none.
func For(image asset.Image, entrypoint []string) (*Starting, error) {
	repository := path.Base(asset.Repository(image.Reference))
	for _, k := range known {
		if slices.Contains(k.repositories, repository) {
			return read(k.file)
		}
	}
	for _, word := range entrypoint[:min(len(entrypoint), 2)] {
		program := path.Base(word)
		for _, k := range known {
			if slices.Contains(k.programs, program) || slices.Contains(k.programs, strings.TrimRight(program, "0123456789.")) {
				return read(k.file)
			}
		}
	}
	return nil, nil
}

// Names lists the starting profiles, by their names.
func Names() []string {
	var out []string
	for _, k := range known {
		out = append(out, k.file)
	}
	return out
}

// Named returns a starting profile by its name.
func Named(name string) (*Starting, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("there is no starting profile %q: there are %s", name, strings.Join(Names(), ", "))
	}
	return read(name)
}

func read(name string) (*Starting, error) {
	b, err := texts.ReadFile(name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("read starting profile %s: %w", name, err)
	}
	d, err := document.Read(b, name+".yaml")
	if err != nil {
		return nil, fmt.Errorf("read starting profile %s: %w", name, err)
	}
	document.Each(d.Profile, func(_ string, e *profile.Evidence) { e.Source = profile.Initial })
	d.Profile.Limits.Source = ""
	return &Starting{Profile: d.Profile, Name: d.Name}, nil
}
