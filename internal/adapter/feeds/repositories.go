package feeds

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pull"
)

// secdb fetches the security database of Alpine's branches, or that of Wolfi or
// Chainguard, which is one file.
func (u *update) secdb(ctx context.Context) error {
	switch u.source.Name {
	case "wolfi":
		return u.get(ctx, item{path: "os/security.json", limit: maxFile})
	case "chainguard":
		return u.get(ctx, item{path: "security.json", limit: maxFile})
	}
	var items []item
	for _, branch := range alpineBranches() {
		for _, repository := range [...]string{"main", "community"} {
			items = append(items, item{path: branch + "/" + repository + ".json", limit: maxFile, optional: true})
		}
	}
	if err := u.each(ctx, items); err != nil {
		return err
	}
	if u.done.Changed+u.done.Unchanged == 0 {
		return fault.New(fault.NotFound, "no branch of Alpine is there")
	}
	return nil
}

// alpineBranches are those that are asked for. They come every half year; asking
// for the next ones before they exist costs an answer each.
func alpineBranches() []string {
	const oldest, newest = 2, 30 // v3.30 is due in 2031
	all := []string{"edge"}
	for minor := oldest; minor <= newest; minor++ {
		all = append(all, fmt.Sprintf("v3.%d", minor))
	}
	return all
}

const (
	updateInfoFile = "updateinfo.xml.gz"
	// maxMetadata is how large a mirror list, a repository's index or the list
	// of extras may be.
	maxMetadata = 4 << 20
)

// amazon fetches the updateinfo of the repositories of an Amazon Linux. Where a
// repository is, its mirror list says; where in it, its index, with a checksum.
func (u *update) amazon(ctx context.Context) error {
	core, others, err := u.amazonRepositories(ctx)
	if err != nil {
		return err
	}
	if err := u.repository(ctx, "core", core); err != nil {
		return err
	}
	for folder, list := range others {
		// A repository that is gone, or never had an update, has none.
		if err := u.repository(ctx, folder, list); err != nil && !errors.Is(err, errAbsent) {
			return err
		}
	}
	return nil
}

// amazonRepositories returns the addresses of the mirror lists, by the folders
// that the repositories have in the layout.
func (u *update) amazonRepositories(ctx context.Context) (core string, others map[string]string, err error) {
	const list = "/latest/x86_64/mirror.list" // an updateinfo is of all architectures
	if u.source.Name == "amazon/2023" {
		return u.base() + "/core/mirrors" + list, map[string]string{
			"kernel-livepatch": u.base() + "/kernel-livepatch/mirrors" + list,
			"nvidia":           u.base() + "/nvidia/mirrors" + list,
		}, nil
	}
	const catalog = "extras-catalog.json"
	if err := u.get(ctx, item{path: catalog, limit: maxMetadata}); err != nil {
		return "", nil, err
	}
	data, err := os.ReadFile(u.path(catalog))
	if err != nil {
		return "", nil, err
	}
	extras, err := extras(data)
	if err != nil {
		return "", nil, fmt.Errorf("read %s: %w", catalog, err)
	}
	others = map[string]string{}
	for _, name := range extras {
		others["extras/"+name] = u.base() + "/extras/" + url.PathEscape(name) + list
	}
	return u.base() + "/core" + list, others, nil
}

// extras returns the names in a catalogue of Amazon Linux's extras.
func extras(catalog []byte) ([]string, error) {
	var r pull.Reader
	r.Reset(catalog)
	var names []string
	if r.Object() {
		for r.Next() {
			if string(r.Key()) != "topics" || !r.Array() {
				if string(r.Key()) != "topics" {
					r.Skip()
				}
				continue
			}
			for r.Next() {
				if !r.Object() {
					continue
				}
				for r.Next() {
					if string(r.Key()) == "n" {
						names = append(names, r.Text())
					} else {
						r.Skip()
					}
				}
			}
		}
	}
	if err := r.End(); err != nil {
		return nil, err
	}
	const most = 1000
	if len(names) > most {
		return nil, tooMany("extras", most)
	}
	for _, n := range names {
		if !safeName(n) {
			return nil, fmt.Errorf("%.60q is no name of an extra", n)
		}
	}
	return names, nil
}

// repository fetches the updateinfo of one repository into its folder. The last
// file of the chain to change is the index: without a change there nothing more is
// asked for.
func (u *update) repository(ctx context.Context, folder, mirrorList string) error {
	target := item{path: folder + "/" + updateInfoFile, limit: maxUpdateInfo}
	if u.f.mirror != "" {
		return u.get(ctx, target)
	}
	mirrors := folder + "/mirror.list"
	if _, err := u.fetch(ctx, item{path: mirrors, url: mirrorList, limit: maxMetadata}); err != nil {
		return err
	}
	base := ""
	if err := u.lines(mirrors, func(line string) error {
		if base == "" && strings.HasPrefix(line, "https://") {
			base = strings.TrimRight(strings.TrimSpace(line), "/")
		}
		return nil
	}); err != nil {
		return err
	}
	if base == "" {
		return fmt.Errorf("%s: no address with https://", mirrors)
	}
	index := folder + "/repomd.xml"
	if _, err := u.fetch(ctx, item{path: index, url: base + "/repodata/repomd.xml", limit: maxMetadata}); err != nil {
		return err
	}
	data, err := os.ReadFile(u.path(index))
	if err != nil {
		return err
	}
	location, sum, err := updateInfoIn(data)
	if err != nil {
		return fmt.Errorf("read %s: %w", index, err)
	}
	target.url, target.sum = base+"/"+location, sum
	_, err = u.fetch(ctx, target)
	return err
}

// updateInfoIn finds the updateinfo in the index of a repository.
func updateInfoIn(repomd []byte) (location string, sum checksum, err error) {
	var index struct {
		Data []struct {
			Type     string `xml:"type,attr"`
			Checksum struct {
				Type  string `xml:"type,attr"`
				Value string `xml:",chardata"`
			} `xml:"checksum"`
			Location struct {
				Href string `xml:"href,attr"`
			} `xml:"location"`
		} `xml:"data"`
	}
	if err := xml.NewDecoder(bytes.NewReader(repomd)).Decode(&index); err != nil {
		return "", sum, err
	}
	for _, d := range index.Data {
		if d.Type != "updateinfo" {
			continue
		}
		location = strings.TrimPrefix(d.Location.Href, "/")
		if location == "" || strings.Contains(location, "..") || strings.Contains(location, ":") {
			return "", sum, fmt.Errorf("%.60q is no place in the repository", location)
		}
		return location, checksum{d.Checksum.Type, strings.TrimSpace(d.Checksum.Value)}, nil
	}
	return "", sum, errAbsent
}
