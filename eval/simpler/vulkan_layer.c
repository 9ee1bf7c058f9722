// A Vulkan layer that claims VK_KHR_external_semaphore_fd and keeps the wish for it from the driver.
//
// SAPIEN 2 enables the extension to share pictures with CUDA, and does without it when no CUDA asks. Mesa's lavapipe
// lacks it and would refuse the device. Everything else passes through untouched.
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define WITHHELD VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME

// One instance and one device live in a simulator's process.
static VkInstance instance;
static PFN_vkGetInstanceProcAddr below_instance;
static PFN_vkGetDeviceProcAddr below_device;

// The loader hangs what the next layer needs among the extension structures.
static VkLayerInstanceCreateInfo *instance_link(const VkInstanceCreateInfo *info) {
  for (VkBaseInStructure *each = (VkBaseInStructure *)info->pNext; each; each = (VkBaseInStructure *)each->pNext) {
    VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)each;
    if (each->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO)
      return link;
  }
  return NULL;
}

static VkLayerDeviceCreateInfo *device_link(const VkDeviceCreateInfo *info) {
  for (VkBaseInStructure *each = (VkBaseInStructure *)info->pNext; each; each = (VkBaseInStructure *)each->pNext) {
    VkLayerDeviceCreateInfo *link = (VkLayerDeviceCreateInfo *)each;
    if (each->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO)
      return link;
  }
  return NULL;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *allocator, VkInstance *made) {
  VkLayerInstanceCreateInfo *link = instance_link(info);
  if (!link) return VK_ERROR_INITIALIZATION_FAILED;
  below_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  PFN_vkCreateInstance create = (PFN_vkCreateInstance)below_instance(VK_NULL_HANDLE, "vkCreateInstance");
  if (!create) return VK_ERROR_INITIALIZATION_FAILED;
  VkResult result = create(info, allocator, made);
  if (result == VK_SUCCESS) instance = *made;
  return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice gpu, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator, VkDevice *made) {
  VkLayerDeviceCreateInfo *link = device_link(info);
  if (!link) return VK_ERROR_INITIALIZATION_FAILED;
  PFN_vkGetInstanceProcAddr next = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  below_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  PFN_vkCreateDevice create = (PFN_vkCreateDevice)next(instance, "vkCreateDevice");
  if (!create) return VK_ERROR_INITIALIZATION_FAILED;

  const char **kept = malloc(sizeof(char *) * (info->enabledExtensionCount + 1));
  if (!kept) return VK_ERROR_OUT_OF_HOST_MEMORY;
  VkDeviceCreateInfo passed = *info;
  passed.ppEnabledExtensionNames = kept;
  passed.enabledExtensionCount = 0;
  for (uint32_t i = 0; i < info->enabledExtensionCount; i++)
    if (strcmp(info->ppEnabledExtensionNames[i], WITHHELD))
      kept[passed.enabledExtensionCount++] = info->ppEnabledExtensionNames[i];
  VkResult result = create(gpu, &passed, allocator, made);
  free(kept);
  return result;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_function(VkDevice device, const char *name) {
  return below_device ? below_device(device, name) : NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_function(VkInstance from, const char *name) {
  if (!strcmp(name, "vkCreateInstance")) return (PFN_vkVoidFunction)create_instance;
  if (!strcmp(name, "vkCreateDevice")) return (PFN_vkVoidFunction)create_device;
  if (!strcmp(name, "vkGetInstanceProcAddr")) return (PFN_vkVoidFunction)instance_function;
  if (!strcmp(name, "vkGetDeviceProcAddr")) return (PFN_vkVoidFunction)device_function;
  return below_instance ? below_instance(from, name) : NULL;
}

VK_LAYER_EXPORT VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface) {
  if (interface->loaderLayerInterfaceVersion > 2) interface->loaderLayerInterfaceVersion = 2;
  interface->pfnGetInstanceProcAddr = instance_function;
  interface->pfnGetDeviceProcAddr = device_function;
  interface->pfnGetPhysicalDeviceProcAddr = NULL;
  return VK_SUCCESS;
}
