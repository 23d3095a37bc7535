package api

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Paging is what a request for a list says about pages. (Exported for huma,
// which reads embedded structs only so.)
type Paging struct {
	Page    int `query:"page" minimum:"1" maximum:"1000000" default:"1" doc:"The page, from 1."`
	PerPage int `query:"perPage" minimum:"1" maximum:"100" default:"20" doc:"How many a page holds."`
}

func (p Paging) offset() int { return (p.Page - 1) * p.PerPage }

// PageHeaders are the headers of a list, as ThingPark writes them.
type PageHeaders struct {
	Link       string `header:"Link" doc:"The addresses of the first, the previous, the next and the last page."`
	Total      int    `header:"X-Total" doc:"How many there are in all."`
	TotalPages int    `header:"X-Total-Pages" doc:"How many pages there are."`
	PerPage    int    `header:"X-Per-Page" doc:"How many a page holds."`
	Page       int    `header:"X-Page" doc:"This page."`
	NextPage   string `header:"X-Next-Page" doc:"The next page, if there is one."`
	PrevPage   string `header:"X-Prev-Page" doc:"The previous page, if there is one."`
}

// headers are those of a page of total entries.
func (p Paging) headers(ctx context.Context, total int) PageHeaders {
	h := PageHeaders{Total: total, TotalPages: (total + p.PerPage - 1) / p.PerPage, PerPage: p.PerPage, Page: p.Page}
	last := max(h.TotalPages, 1)
	at := requestOf(ctx).URL
	links := []string{p.link(at, 1, "first")}
	if p.Page > 1 {
		before := min(p.Page-1, last)
		h.PrevPage = strconv.Itoa(before)
		links = append(links, p.link(at, before, "prev"))
	}
	if p.Page < last {
		h.NextPage = strconv.Itoa(p.Page + 1)
		links = append(links, p.link(at, p.Page+1, "next"))
	}
	h.Link = strings.Join(append(links, p.link(at, last, "last")), ", ")
	return h
}

func (p Paging) link(at *url.URL, page int, rel string) string {
	q := at.Query()
	q.Set("page", strconv.Itoa(page))
	q.Set("perPage", strconv.Itoa(p.PerPage))
	to := url.URL{Path: at.Path, RawQuery: q.Encode()}
	return fmt.Sprintf("<%s>; rel=%q", to.String(), rel)
}

// pageOf cuts a page out of a list that is there as a whole.
func pageOf[T any](p Paging, all []T) []T {
	from := min(p.offset(), len(all))
	return all[from:min(from+p.PerPage, len(all))]
}
