package sluice

// DriverAuto is the pseudo driver that picks a driver by the report's own
// DriverCfg. Source: ThingPark X IoT Flow documentation, "Drivers".
const DriverAuto = "actility:auto:1"
