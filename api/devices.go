package api

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"sluice"
)

// deviceView is a device as the API shows it.
type deviceView struct {
	DevEUI   string      `json:"devEUI" example:"0018B20000000B20"`
	Name     string      `json:"name,omitempty"`
	Tags     []string    `json:"tags" nullable:"false"`
	Network  string      `json:"networkId" doc:"The network that it was last seen in: where its downlinks go."`
	LastSeen Time        `json:"lastSeen"`
	Things   []thingView `json:"things" nullable:"false" doc:"The device in the registry of each connection's cloud."`
}

type thingView struct {
	ConnectionID string            `json:"connectionId" example:"1"`
	State        sluice.ThingState `json:"state" enum:"registered,missing,pending,failed"`
	Name         string            `json:"name,omitempty" doc:"Its name in the cloud, where that is not made of the DevEUI alone."`
	Detail       string            `json:"detail,omitempty" doc:"Why, where it failed, or what is odd about it."`
}

func (s *server) viewDevice(d sluice.Device) deviceView {
	v := deviceView{
		DevEUI: d.DevEUI, Name: d.Name, Tags: orEmpty(d.Tags), Network: d.Network,
		LastSeen: At(d.LastSeen), Things: []thingView{},
	}
	for id, t := range s.Devices.ThingsOf(d.DevEUI) {
		v.Things = append(v.Things, thingView{ConnectionID: id, State: t.State, Name: t.Name, Detail: t.Detail})
	}
	slices.SortFunc(v.Things, func(a, b thingView) int {
		// Ids are numbers as text: the shorter is the smaller.
		return cmp.Or(cmp.Compare(len(a.ConnectionID), len(b.ConnectionID)), cmp.Compare(a.ConnectionID, b.ConnectionID))
	})
	return v
}

type listDevicesInput struct {
	Paging
	NetworkID string `query:"networkId" doc:"Only devices last seen in this network."`
	Tag       string `query:"tag" doc:"Only devices with this tag, in any case."`
	DevEUI    string `query:"devEUI" maxLength:"16" pattern:"^[0-9A-Fa-f]*$" doc:"Only devices whose DevEUI begins so."`
}

type listDevicesOutput struct {
	PageHeaders
	Body []deviceView `nullable:"false"`
}

func (s *server) listDevices(ctx context.Context, in *listDevicesInput) (*listDevicesOutput, error) {
	devices, total := s.selectDevices(in)
	out := &listDevicesOutput{PageHeaders: in.headers(ctx, total), Body: []deviceView{}}
	for _, d := range devices {
		out.Body = append(out.Body, s.viewDevice(d))
	}
	return out, nil
}

// selectDevices returns a page of devices and how many there are in all. With a
// filter all are looked through: there are few enough of them, and it is asked
// seldom enough.
func (s *server) selectDevices(in *listDevicesInput) ([]sluice.Device, int) {
	if in.NetworkID == "" && in.Tag == "" && in.DevEUI == "" {
		return s.Devices.Devices(in.offset(), in.PerPage)
	}
	all, _ := s.Devices.Devices(0, math.MaxInt32)
	start := strings.ToUpper(in.DevEUI)
	var chosen []sluice.Device
	for _, d := range all {
		if in.NetworkID != "" && d.Network != in.NetworkID || !strings.HasPrefix(d.DevEUI, start) {
			continue
		}
		tagged := func(tag string) bool { return strings.EqualFold(tag, in.Tag) }
		if in.Tag == "" || slices.ContainsFunc(d.Tags, tagged) {
			chosen = append(chosen, d)
		}
	}
	return pageOf(in.Paging, chosen), len(chosen)
}

type deviceInput struct {
	DevEUI string `path:"devEUI" example:"0018B20000000B20" doc:"DevEUI of the device, in any case."`
}

type deviceOutput struct {
	Body deviceView
}

func (s *server) getDevice(_ context.Context, in *deviceInput) (*deviceOutput, error) {
	d, ok := s.Devices.Device(strings.ToUpper(in.DevEUI))
	if !ok {
		return nil, &sluice.Error{
			Code:    sluice.CodeNotFound,
			Message: fmt.Sprintf("There is no device with the DevEUI %q.", in.DevEUI),
			Hint:    "GET /devices lists them; a device is known from its first report on.",
		}
	}
	return &deviceOutput{Body: s.viewDevice(d)}, nil
}
